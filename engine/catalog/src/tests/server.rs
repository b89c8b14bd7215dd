//! A small HTTP server on loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// With its query.
    pub path: String,
    pub head: String,
    pub body: String,
    /// How many requests of this method and path were before it.
    pub before: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    pub delay: Duration,
    /// Close the connection in place of an answer.
    pub is_cut: bool,
}

impl Reply {
    pub fn new(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), delay: Duration::ZERO, is_cut: false }
    }

    pub fn json(body: &str) -> Self {
        Self::new(200, body)
    }

    pub fn error(status: u16, kind: &str, message: &str) -> Self {
        Self::new(status, &format!(r#"{{"error":{{"message":"{message}","type":"{kind}","code":{status}}}}}"#))
    }

    pub fn with(mut self, header: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }

    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub fn cut() -> Self {
        Self { is_cut: true, ..Self::new(200, "") }
    }
}

pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Its threads end with the process of the tests.
    pub fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let all: Arc<Mutex<Vec<Seen>>> = seen.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (all, answer) = (all.clone(), answer.clone());
                std::thread::spawn(move || serve(connection, &all, &*answer));
            }
        });
        Self { address, seen }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Method and path of all requests but the one for the configuration.
    pub fn paths(&self) -> Vec<String> {
        let all = self.seen().into_iter().filter(|seen| !seen.path.contains("/v1/config"));
        all.map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }
}

fn serve(mut connection: TcpStream, all: &Mutex<Vec<Seen>>, answer: &dyn Fn(&Seen) -> Reply) {
    let Some(mut seen) = read(&mut connection) else { return };
    {
        let mut all = all.lock().unwrap();
        seen.before = all.iter().filter(|one| one.method == seen.method && one.path == seen.path).count();
        all.push(seen.clone());
    }
    let reply = answer(&seen);
    std::thread::sleep(reply.delay);
    if reply.is_cut {
        return;
    }
    let mut head =
        format!("HTTP/1.1 {} -\r\nconnection: close\r\ncontent-length: {}\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    // The client may have gone.
    let _ =
        connection.write_all(format!("{head}\r\n{}", if seen.method == "HEAD" { "" } else { &reply.body }).as_bytes());
}

fn read(connection: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut buffer = [0u8; 4096];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        let n = connection.read(&mut buffer).ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&buffer[..n]);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut words = head.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut seen = Seen { method, path, head, body: String::new(), before: 0 };
    let length: usize = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        let n = connection.read(&mut buffer).ok().filter(|n| *n > 0)?;
        body.extend_from_slice(&buffer[..n]);
    }
    seen.body = String::from_utf8(body).unwrap();
    Some(seen)
}
