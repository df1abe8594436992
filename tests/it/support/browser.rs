//! A headless Chromium, driven through its WebDriver.
//!
//! Source: W3C WebDriver, <https://www.w3.org/TR/webdriver2/>.

use super::process::Process;
use super::{http, ports, wait, workspace};
use serde_json::{Value, json};
use std::process::Command;

/// What a page must not do: reach out while a test runs.
const ARGUMENTS: [&str; 7] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser window.
pub struct Browser {
    port: u16,
    session: String,
    _driver: Process,
}

impl Browser {
    /// A window of a desktop, or of a phone so many pixels wide.
    ///
    /// Panics: where chromedriver is missing; `tests/prepare` installs it.
    pub fn open(name: &str, phone_width: Option<u32>) -> Self {
        let port = ports::free();
        let log = workspace::directory(name).join("chromedriver.log");
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}"));
        let driver = Process::start("chromedriver", &mut command, &log);
        wait::until("chromedriver to listen", || {
            http::get(port, "/status").is_some_and(|(status, _)| status == 200)
        });
        let mut options = json!({ "args": ARGUMENTS });
        if let Some(width) = phone_width {
            let metrics = json!({ "width": width, "height": 844, "pixelRatio": 2 });
            options["mobileEmulation"] = json!({ "deviceMetrics": metrics });
        }
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": options,
            "unhandledPromptBehavior": "ignore",
        } } });
        let mut browser = Self {
            port,
            session: String::new(),
            _driver: driver,
        };
        let opened = browser.ask("/session", &wanted);
        opened["sessionId"]
            .as_str()
            .expect("a session")
            .clone_into(&mut browser.session);
        browser
    }

    /// Goes to a page and waits until it is loaded.
    #[track_caller]
    pub fn go(&self, url: &str) {
        self.ask(&self.path("/url"), &json!({ "url": url }));
    }

    /// What a function body in JavaScript returns.
    #[track_caller]
    pub fn eval(&self, script: &str) -> Value {
        let script = json!({ "script": script, "args": [] });
        self.ask(&self.path("/execute/sync"), &script)
    }

    fn path(&self, path: &str) -> String {
        format!("/session/{}{path}", self.session)
    }

    #[track_caller]
    fn ask(&self, path: &str, body: &Value) -> Value {
        let (status, text) =
            http::post(self.port, path, &body.to_string()).expect("chromedriver answers");
        let mut answer: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(status, 200, "{path}: {answer:#}");
        answer["value"].take()
    }
}

impl Drop for Browser {
    /// Chromium ends with its session, not with its driver.
    fn drop(&mut self) {
        if !self.session.is_empty() {
            http::delete(self.port, &self.path(""));
        }
    }
}
