//! A broker with an authorizer, a TLS listener with SASL, and one that asks for
//! certificates. Its plain listener is that of the administrator, who may do all.

use super::page::{self, Grant};
use crate::support::broker::{self, Broker, Node};
use crate::support::kafka_version;
use crate::support::tls::Authority;
use crate::support::{ports, workspace};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// The password of all users with PLAIN, and of `ringback` with SCRAM.
pub const PASSWORD: &str = "change-me";
/// The users of the page.
const USERS: [&str; 7] = [
    "ringback",
    "ringback-admin",
    "ringback-publisher",
    "ringback-finder",
    "ringback-reader",
    "ringback-jobs",
    "ringback-tenants",
];

/// The broker with its administrator.
pub struct SecureBroker {
    pub broker: Broker,
    /// `host:port` for SASL, and for certificates.
    pub sasl: String,
    pub certificates: String,
    /// The authority of its certificates, and of those of clients.
    pub authority: Authority,
    directory: PathBuf,
    acls: Mutex<Acls>,
}

impl SecureBroker {
    /// The broker that the tests of this module share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<SecureBroker> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let directory = workspace::directory("security");
        let authority = Authority::new();
        let (certificate, key) = authority.common_name("kafka-0");
        let write = |name: &str, text: &str| write(&directory, name, text);
        let store = write("broker.pem", &(key + &certificate));
        let ca = write("ca.pem", &authority.pem());
        let (sasl, certificates) = (ports::free(), ports::free());
        let node = Node {
            ways: vec![(sasl, sasl), (certificates, certificates)],
            ..Node::alone()
        };
        let broker = Broker::prepare_settings("security-broker", &node, &settings(&store, &ca));
        broker.start();
        let address = |port: u16| format!("127.0.0.1:{port}");
        let secure = Self {
            acls: Mutex::new(Acls::start(broker.address())),
            broker,
            sasl: address(sasl),
            certificates: address(certificates),
            authority,
            directory,
        };
        secure.set_password(PASSWORD);
        secure
    }

    /// Sets the SCRAM password of `ringback` by the command of the page.
    pub fn set_password(&self, password: &str) {
        let command = page::command("kafka-configs.sh ");
        let command = command.replace("kafka-0:9092", self.broker.address());
        let command = command.replace(" --command-config admin.properties", "");
        let command = command.replace(PASSWORD, password).replace('\'', "");
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        let done = broker::run_java("kafka.admin.ConfigCommand", &words);
        done.expect("the password is set");
    }

    /// Writes a file of properties as the page has it, with this user. The other files
    /// that it names get their contents.
    pub fn properties(&self, name: &str, text: &str, user: &str) -> PathBuf {
        let files = self.directory.join(name);
        fs::create_dir_all(&files).expect("the build directory is writable");
        let (certificate, key) = self.authority.common_name(user);
        write(&files, "ca.pem", &self.authority.pem());
        write(&files, "tls.crt", &certificate);
        write(&files, "tls.key", &key);
        let text = text
            .replace("/etc/ringback-files", files.to_str().expect("UTF-8"))
            .replace("username=ringback", &format!("username={user}"));
        write(&files, "kafka.properties", &text)
    }

    /// Adds grants.
    pub fn allow<'g>(&self, grants: impl IntoIterator<Item = &'g Grant>) {
        let mut acls = self.acls.lock().expect("no holder panics");
        for grant in grants {
            acls.run("--add", grant);
        }
    }

    /// Removes a grant.
    pub fn forbid(&self, grant: &Grant) {
        let mut acls = self.acls.lock().expect("no holder panics");
        acls.run("--remove", grant);
    }
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).expect("the build directory is writable");
    path
}

fn settings(store: &Path, ca: &Path) -> String {
    let users: String = USERS
        .iter()
        .map(|user| format!(" user_{user}=\"{PASSWORD}\""))
        .collect();
    format!(
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,WAY0:SASL_SSL,WAY1:SSL
ssl.keystore.type=PEM
ssl.keystore.location={store}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/,DEFAULT
listener.name.way1.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.way0.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required{users};
listener.name.way0.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
",
        store = store.display(),
        ca = ca.display()
    )
}

/// `kafka-acls.sh` for many calls, in one process. It ends with its standard input.
struct Acls {
    address: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Acls {
    fn start(address: &str) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/security/Acls.java");
        let mut child = Command::new("java")
            .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg("-cp")
            .arg(kafka_version::class_path())
            .arg(source)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("java can be started");
        let input = child.stdin.take().expect("it is piped");
        let output = child.stdout.take().expect("it is piped");
        Self {
            address: address.to_owned(),
            child,
            input,
            output: BufReader::new(output),
        }
    }

    fn run(&mut self, how: &str, grant: &Grant) {
        let (address, arguments) = (&self.address, &grant.arguments);
        let line = format!("--bootstrap-server {address} --force {how} {arguments}");
        writeln!(self.input, "{line}").expect("it reads until we end");
        loop {
            let mut told = String::new();
            let read = self.output.read_line(&mut told).expect("it writes UTF-8");
            assert!(read > 0, "kafka-acls {line}");
            if told == "done\n" {
                return;
            }
        }
    }
}

impl Drop for Acls {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
