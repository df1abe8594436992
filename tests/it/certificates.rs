//! Certificates that callbacks show and trust, and changes while the service runs.

use crate::support::http_parts::read_request;
use crate::support::receiver::Behaviour;
use crate::support::ringback::Ringback;
use crate::support::scene::{Plan, Scene};
use crate::support::tls::Authority;
use crate::support::wait;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The certificates that clients have shown, one for each request.
type Shown = Arc<Mutex<Vec<Vec<u8>>>>;

/// Starts a server that asks for a client's certificate and answers 200.
fn serve(config: ServerConfig) -> (SocketAddr, Shown) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("an open socket");
    let address = listener.local_addr().expect("bound");
    let shown = Shown::default();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let notes = Arc::clone(&shown);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(answer(acceptor.clone(), socket, Arc::clone(&notes)));
            }
        });
    });
    (address, shown)
}

async fn answer(acceptor: TlsAcceptor, socket: TcpStream, shown: Shown) {
    let Ok(mut stream) = acceptor.accept(socket).await else {
        return;
    };
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .map(|all| all[0].to_vec());
    let mut buffer = Vec::new();
    while read_request(&mut stream, &mut buffer).await.is_some() {
        let certificate = certificate.clone().unwrap_or_default();
        shown.lock().expect("no holder panics").push(certificate);
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Replaces a file by a rename, as an operator must.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("the build directory is writable");
    std::fs::rename(new, path).expect("the build directory is writable");
}

fn until_logged(ringback: &Ringback, line: &str) {
    wait::until(line, || ringback.log().contains(line));
}

#[test]
fn changed_certificates_are_used_and_broken_ones_are_refused() {
    let (servers, others, clients) = (Authority::new(), Authority::new(), Authority::new());
    let (address, shown) = serve(servers.asking(&clients));
    let (other, _) = serve(others.asking(&clients));
    let mut scene = Scene::new("client-cert", Plan::default());
    for (tenant, address) in [("asks", address), ("later", other)] {
        let url = serde_json::json!({ "url": format!("https://{address}/") });
        scene.tenant_with(tenant, Behaviour::Ok, &url);
    }
    let ca = scene.file("ca.pem", &servers.pem());
    let client = scene.file("client.pem", &clients.client("one"));
    let files = [&ca, &client].map(|file| file.to_str().expect("UTF-8"));
    let arguments = ["--ca-file", files[0], "--client-cert", files[1]];
    let ringback = scene.start("a", &arguments).ready();
    scene.send_record("asks-1", "asks");
    ringback.until("the delivery", |m| m.disposed("delivered") == 1);
    let first = shown.lock().expect("no holder panics")[0].clone();
    assert!(!first.is_empty());

    replace(&client, "broken");
    until_logged(&ringback, "a file of certificates was refused");
    scene.send_record("asks-2", "asks");
    ringback.until("the delivery", |m| m.disposed("delivered") == 2);
    assert!(
        shown
            .lock()
            .expect("no holder panics")
            .iter()
            .all(|c| *c == first)
    );

    replace(&client, &clients.client("two"));
    until_logged(&ringback, "changed certificates are in force");
    scene.send_record("asks-3", "asks");
    ringback.until("the delivery", |m| m.disposed("delivered") == 3);
    assert_ne!(shown.lock().expect("no holder panics")[2], first);

    scene.send_record("later-1", "later");
    ringback.until("an attempt without trust", |metrics| {
        metrics.count("ringback_attempts_total", &[("outcome", "tls")]) >= 1
    });
    replace(&ca, &(servers.pem() + &others.pem()));
    ringback.until("the delivery", |m| m.disposed("delivered") == 4);
    let log = ringback.log();
    assert!(
        !log.contains("PRIVATE KEY") && log.contains("client.pem"),
        "{log}"
    );
    ringback.drain();
}
