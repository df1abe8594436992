//! The processes of a measurement, all run by this same program: the receiver,
//! and reqwest alone. Each ends by itself.

use super::machine;
use super::support::receiver::{Behaviour, Keep, Receiver};
use super::support::sample;
use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The number of tenants that share the records.
pub const TENANTS: usize = 100;

/// Returns the tenant of a record.
pub fn tenant(number: usize) -> String {
    format!("tenant-{}", number % TENANTS)
}

/// Runs the receiver's process: it answers questions on its standard input and
/// ends with it.
pub fn receive(fail_first: usize) {
    // All loopback addresses: with many tenants each has its own.
    let receiver = Receiver::start_at("0.0.0.0:0", Keep::Checksum);
    for number in 0..TENANTS {
        receiver.behave(&tenant(number), Behaviour::FailFirst(fail_first));
    }
    let mut out = std::io::stdout();
    let mut say = |text: &str| {
        writeln!(out, "{text}").and_then(|()| out.flush()).ok();
    };
    say(&receiver.port().to_string());
    for question in std::io::stdin().lines().map_while(Result::ok) {
        match question.as_str() {
            "count" => say(&receiver.count().to_string()),
            "posts" => {
                for (id, posts) in receiver.posts() {
                    let times: Vec<_> = posts.iter().map(|p| p.at_us.to_string()).collect();
                    say(&format!("{id} {}", times.join(" ")));
                }
                say("");
            }
            _ => behave(&receiver, &question),
        }
    }
}

/// Sets a behaviour: `hang` or `slow MILLISECONDS`, followed by the tenants.
fn behave(receiver: &Receiver, order: &str) {
    let mut words = order.split(' ');
    let behaviour = match words.next() {
        Some("hang") => Behaviour::Hang,
        Some("slow") => {
            let ms = words.next().and_then(|ms| ms.parse().ok());
            Behaviour::Slow(Duration::from_millis(ms.expect("milliseconds")))
        }
        _ => panic!("{order} is no order"),
    };
    words.for_each(|tenant| receiver.behave(tenant, behaviour));
}

/// The receiver's process, as the measuring process sees it.
pub struct ReceiverProcess {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
    pub port: u16,
}

impl ReceiverProcess {
    /// Starts the process; it fails the first `fail_first` POSTs of each record.
    pub fn start(fail_first: usize) -> Self {
        let mut child = this_program()
            .args(["receiver", &fail_first.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let answers = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let mut this = Self {
            child,
            answers,
            port: 0,
        };
        this.port = this.line().parse().expect("a port");
        this
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends an order for `behave`.
    pub fn order(&mut self, order: &str) {
        self.ask(order);
    }

    /// Returns the number of received POSTs.
    pub fn count(&mut self) -> usize {
        self.ask("count");
        self.line().parse().expect("a number")
    }

    /// Returns the arrival times of each record's POSTs, in microseconds since
    /// the epoch.
    pub fn posts(&mut self) -> Vec<(String, Vec<u64>)> {
        self.ask("posts");
        let mut posts = Vec::new();
        loop {
            let line = self.line();
            let Some((id, times)) = line.split_once(' ') else {
                return posts;
            };
            let times = times.split(' ').map(|t| t.parse().expect("a number"));
            posts.push((id.to_owned(), times.collect()));
        }
    }

    fn ask(&mut self, question: &str) {
        let input = self.child.stdin.as_mut().expect("standard input is piped");
        writeln!(input, "{question}").expect("the receiver runs");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .expect("the receiver answers");
        line.trim_end().to_owned()
    }
}

impl Drop for ReceiverProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().ok();
    }
}

/// Runs the process of a plain consumer: it reads a topic as one member of a group,
/// with the settings of librdkafka. It says when it has a first record, and ends with
/// its standard input.
pub fn consume(brokers: &str, topic: &str) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("{topic}-plain"))
        .set("auto.offset.reset", "earliest")
        .create()
        .expect("a consumer can be made");
    consumer.subscribe(&[topic]).expect("a valid topic");
    std::thread::spawn(move || {
        let mut said = false;
        loop {
            if let Some(Ok(_)) = consumer.poll(Duration::from_millis(100))
                && !std::mem::replace(&mut said, true)
            {
                println!("reads");
            }
        }
    });
    std::io::stdin()
        .lines()
        .map_while(Result::ok)
        .for_each(drop);
}

/// The process of a plain consumer, as the measuring process sees it.
pub struct ConsumerProcess(Child);

impl ConsumerProcess {
    /// Starts the process. The topic must have a record: returns when that was read.
    pub fn start(brokers: &str, topic: &str) -> Self {
        let mut child = this_program()
            .args(["consume", brokers, topic])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let mut answers = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let mut line = String::new();
        answers.read_line(&mut line).expect("the consumer answers");
        assert_eq!(line, "reads\n", "the consumer ended");
        Self(child)
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for ConsumerProcess {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

/// The results of reqwest alone.
pub struct Alone {
    /// CPU time for each POST, in microseconds.
    pub cpu_us: f64,
    /// POSTs per second of the clock.
    pub per_second: f64,
}

/// Runs reqwest alone in a process of its own on this core. With a rate of 0 it
/// keeps `in_flight` POSTs in flight; otherwise it keeps the rate.
pub fn reqwest_alone(core: &str, port: u16, posts: usize, in_flight: usize, rate: usize) -> Alone {
    let program = std::env::current_exe().expect("this program has a path");
    let done = Command::new("taskset")
        .args(["-c", core])
        .arg(program)
        .arg("posts")
        .args([usize::from(port), posts, in_flight, rate].map(|n| n.to_string()))
        .stderr(Stdio::inherit())
        .output()
        .expect("this program can be started again");
    let output = String::from_utf8_lossy(&done.stdout).into_owned();
    let mut numbers = output
        .split_whitespace()
        .map(|n| n.parse().expect("a number"));
    let mut next = || numbers.next().expect("two numbers");
    Alone {
        cpu_us: next(),
        per_second: next(),
    }
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().expect("this program has a path"))
}

/// Runs the process of reqwest alone: the same POSTs as ringback's, from memory.
pub fn post(port: u16, posts: usize, in_flight: usize, rate: usize) {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(5))
        .build()
        .expect("a client can be made");
    let urls: Vec<String> = (0..TENANTS)
        .map(|n| format!("http://127.0.0.1:{port}/t/{}", tenant(n)))
        .collect();
    let body = Bytes::from(sample::wrapped(&sample::record("alone-000000", &tenant(0))));
    let work = Arc::new((client, urls, body));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let (cpu, started) = (machine::cpu(std::process::id()), Instant::now());
    runtime.block_on(async {
        if rate == 0 {
            post_all(&work, posts, in_flight).await;
        } else {
            post_paced(&work, posts, rate).await;
        }
    });
    let cpu = machine::cpu(std::process::id()) - cpu;
    println!(
        "{} {}",
        cpu.as_secs_f64() * 1e6 / posts as f64,
        posts as f64 / started.elapsed().as_secs_f64()
    );
}

type Work = Arc<(reqwest::Client, Vec<String>, Bytes)>;

async fn post_all(work: &Work, posts: usize, in_flight: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let posting: Vec<_> = (0..in_flight)
        .map(|_| {
            let (work, next) = (work.clone(), next.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= posts {
                        return;
                    }
                    post_one(&work, number).await;
                }
            })
        })
        .collect();
    for task in posting {
        task.await.expect("no POST panics");
    }
}

async fn post_paced(work: &Work, posts: usize, rate: usize) {
    let started = tokio::time::Instant::now();
    let mut posting = Vec::with_capacity(posts);
    for number in 0..posts {
        let due = Duration::from_secs_f64(number as f64 / rate as f64);
        tokio::time::sleep_until(started + due).await;
        let work = work.clone();
        posting.push(tokio::spawn(async move { post_one(&work, number).await }));
    }
    for task in posting {
        task.await.expect("no POST panics");
    }
}

async fn post_one(work: &Work, number: usize) {
    let (client, urls, body) = &**work;
    let answer = client
        .post(urls[number % TENANTS].as_str())
        .header("content-type", "application/json; charset=utf-8")
        .header("user-agent", "ringback/0.0.0")
        .header("webhook-id", format!("alone-{number}"))
        .header("webhook-timestamp", "1700000000")
        .header("ringback-attempt", "1")
        .body(body.clone())
        .send()
        .await
        .expect("the receiver answers");
    answer.bytes().await.expect("the answer has an end");
}
