//! A loopback proxy that records requests and makes faults that a real registry can't be made to show.
//!
//! One request a connection (it adds `Connection: close`), plain HTTP/1.1 on both sides. Without a registry behind it, it
//! is a server that answers by its rules only.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request as the client sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Names in lower case, in the order sent.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Whether credentials came with it.
    pub fn authorized(&self) -> bool {
        self.header("authorization").is_some()
    }
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This answer, without asking the registry: status, headers, body.
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// The connection ends without an answer.
    Close,
    /// The connection ends after so many bytes of the request's body have reached the registry.
    CutRequest(u64),
    /// The connection ends after so many bytes of the answer's body.
    CutAnswer(u64),
    /// A bit of this byte of the answer's body is changed.
    FlipAnswer(u64),
    /// A header of the answer is replaced, or left out.
    Header(String, Option<String>),
    /// Some time passes before the request goes on.
    Delay(Duration),
}

impl Fault {
    /// An answer with a status and nothing else.
    pub fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), Vec::new())
    }

    /// An answer with a status and a header.
    pub fn status_with(status: u16, name: &str, value: &str) -> Self {
        Self::Answer(status, vec![(name.into(), value.into())], Vec::new())
    }
}

/// Which requests a fault befalls.
#[derive(Debug, Clone)]
pub struct Rule {
    method: Option<String>,
    path: String,
    from: usize,
    times: usize,
    fault: Fault,
    matched: usize,
}

impl Rule {
    /// Every request.
    pub fn new(fault: Fault) -> Self {
        Self { method: None, path: String::new(), from: 1, times: usize::MAX, fault, matched: 0 }
    }

    /// Only requests with this method.
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.into());
        self
    }

    /// Only requests whose path or query holds this text.
    pub fn path(mut self, part: &str) -> Self {
        self.path = part.into();
        self
    }

    /// Only the nth of the requests that match otherwise, from 1.
    pub fn nth(mut self, n: usize) -> Self {
        (self.from, self.times) = (n, 1);
        self
    }

    /// Only the first so many of the requests that match otherwise.
    pub fn first(mut self, times: usize) -> Self {
        (self.from, self.times) = (1, times);
        self
    }

    fn befalls(&mut self, seen: &Seen) -> bool {
        if self.method.as_ref().is_some_and(|m| *m != seen.method) || !seen.path.contains(&self.path) {
            return false;
        }
        self.matched += 1;
        self.matched >= self.from && self.matched - self.from < self.times
    }
}

/// Answers some requests itself, as a registry with more features would.
pub trait Handler: Send + Sync {
    /// Whether a request is its own. Rules come first.
    fn wants(&self, seen: &Seen) -> bool;
    /// Status, headers and body.
    fn answer(&self, seen: &Seen, body: &[u8]) -> (u16, Vec<(String, String)>, Vec<u8>);
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    rules: Vec<Rule>,
}

/// The running proxy. It ends with this value.
pub struct Proxy {
    host: String,
    state: Arc<Mutex<State>>,
    ending: Arc<AtomicBool>,
}

impl Proxy {
    /// In front of `host:port`.
    pub fn to(upstream: &str) -> Self {
        Self::listen(Some(upstream.into()), None)
    }

    /// In front of `host:port`, with a handler for some requests.
    pub fn with_handler(upstream: &str, handler: Arc<dyn Handler>) -> Self {
        Self::listen(Some(upstream.into()), Some(handler))
    }

    /// In front of a plain HTTP registry.
    pub fn before(registry: &crate::Registry) -> Self {
        Self::to(registry.host())
    }

    /// A server without a registry: what no rule answers gets 404.
    pub fn alone() -> Self {
        Self::listen(None, None)
    }

    fn listen(upstream: Option<String>, handler: Option<Arc<dyn Handler>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (state, ending) = (Arc::new(Mutex::new(State::default())), Arc::new(AtomicBool::new(false)));
        let (shared, end) = (state.clone(), ending.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let (state, upstream, handler) = (shared.clone(), upstream.clone(), handler.clone());
                // A broken connection is nothing unusual here, and the client's business.
                thread::spawn(move || serve(client, upstream.as_deref(), handler.as_deref(), &state));
            }
        });
        Self { host, state, ending }
    }

    /// `127.0.0.1:<port>`
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `http://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    /// Adds a rule. Of several that match a request, the first counts.
    pub fn rule(&self, rule: Rule) {
        self.state.lock().unwrap().rules.push(rule);
    }

    /// Drops all rules and all that was recorded.
    pub fn clear(&self) {
        *self.state.lock().unwrap() = State::default();
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// How many requests had this method and this text in their path or query.
    pub fn count(&self, method: &str, path: &str) -> usize {
        self.seen().iter().filter(|s| s.method == method && s.path.contains(path)).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.host);
    }
}

fn serve(
    client: TcpStream,
    upstream: Option<&str>,
    handler: Option<&dyn Handler>,
    state: &Mutex<State>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client.try_clone()?);
    let Some((line, headers)) = read_head(&mut reader)? else { return Ok(()) };
    let mut words = line.split(' ');
    let seen = Seen {
        method: words.next().unwrap_or_default().into(),
        path: words.next().unwrap_or_default().into(),
        headers: headers.iter().map(|(n, v)| (n.to_lowercase(), v.clone())).collect(),
    };
    let fault = {
        let mut state = state.lock().unwrap();
        state.seen.push(seen.clone());
        let mut fault = None;
        for rule in &mut state.rules {
            if rule.befalls(&seen) && fault.is_none() {
                fault = Some(rule.fault.clone());
            }
        }
        fault
    };
    match (&fault, upstream) {
        (Some(Fault::Close), _) => return client.shutdown(Shutdown::Both),
        (Some(Fault::Answer(status, headers, body)), _) => {
            return answer(client, reader, &seen, *status, headers, body);
        }
        (_, None) => return answer(client, reader, &seen, 404, &[], b""),
        (Some(Fault::Delay(time)), _) => thread::sleep(*time),
        _ => {}
    }
    if let Some(handler) = handler.filter(|handler| handler.wants(&seen)) {
        if seen.header("expect").is_some() {
            (&client).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = read_body(&client, &mut reader, &seen)?;
        let (status, headers, body) = handler.answer(&seen, &body);
        return respond(client, &seen, status, &headers, &body);
    }
    let server = TcpStream::connect(upstream.unwrap_or_default())?;
    server.set_nodelay(true)?;
    write_head(&server, &line, &headers)?;
    // The request's body goes on while the answer is waited for.
    let limit = if let Some(Fault::CutRequest(limit)) = fault { limit } else { u64::MAX };
    let (to_server, client_too) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let cut = io::copy(&mut reader.take(limit), &mut &to_server);
        if limit != u64::MAX || cut.is_err() {
            let _ = (to_server.shutdown(Shutdown::Both), client_too.shutdown(Shutdown::Both));
        }
    });
    let relayed = relay(server.try_clone()?, &client, fault.as_ref());
    let _ = (server.shutdown(Shutdown::Both), client.shutdown(Shutdown::Both));
    relayed
}

/// Hands the registry's answer to the client, with the fault in it.
fn relay(server: TcpStream, mut client: &TcpStream, fault: Option<&Fault>) -> io::Result<()> {
    let mut reader = BufReader::new(server);
    loop {
        let Some((line, mut headers)) = read_head(&mut reader)? else { return Ok(()) };
        if let Some(Fault::Header(name, value)) = fault {
            headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
            headers.extend(value.iter().map(|v| (name.clone(), v.clone())));
        }
        write_head(client, &line, &headers)?;
        // 100 Continue is followed by the answer proper.
        if line.split(' ').nth(1) != Some("100") {
            break;
        }
    }
    match fault {
        Some(Fault::CutAnswer(limit)) => {
            io::copy(&mut reader.take(*limit), &mut client)?;
        }
        Some(Fault::FlipAnswer(at)) => {
            io::copy(&mut (&mut reader).take(*at), &mut client)?;
            let mut byte = [0];
            reader.read_exact(&mut byte)?;
            client.write_all(&[byte[0] ^ 1])?;
            io::copy(&mut reader, &mut client)?;
        }
        _ => {
            io::copy(&mut reader, &mut client)?;
        }
    }
    Ok(())
}

/// Answers by itself. The request's body is read first, so that the client is not cut off while it writes.
fn answer(
    client: TcpStream,
    mut reader: BufReader<TcpStream>,
    seen: &Seen,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
) -> io::Result<()> {
    if seen.header("expect").is_none() {
        read_body(&client, &mut reader, seen)?;
    }
    respond(client, seen, status, headers, body)
}

/// The body of a request.
fn read_body(client: &TcpStream, reader: &mut BufReader<TcpStream>, seen: &Seen) -> io::Result<Vec<u8>> {
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut body = Vec::new();
    if let Some(length) = seen.header("content-length").and_then(|v| v.parse().ok()) {
        reader.take(length).read_to_end(&mut body)?;
    } else if seen.header("transfer-encoding").is_some() {
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 {
            let size = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
            // Each chunk, and the line break behind it.
            reader.take(size).read_to_end(&mut body)?;
            io::copy(&mut reader.take(2), &mut io::sink())?;
            if size == 0 {
                break;
            }
            line.clear();
        }
    }
    Ok(body)
}

fn respond(
    mut client: TcpStream,
    seen: &Seen,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
) -> io::Result<()> {
    let mut headers = headers.to_vec();
    if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("content-length")) {
        headers.push(("content-length".into(), body.len().to_string()));
    }
    write_head(&client, &format!("HTTP/1.1 {status} Fault"), &headers)?;
    if seen.method != "HEAD" {
        client.write_all(body)?;
    }
    client.shutdown(Shutdown::Both)
}

type Head = (String, Vec<(String, String)>);

fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.into(), value.trim().into())),
            None => return Ok(Some((first.trim_end().into(), headers))),
        }
    }
}

fn write_head(mut to: &TcpStream, line: &str, headers: &[(String, String)]) -> io::Result<()> {
    let mut head = format!("{line}\r\n");
    for (name, value) in headers.iter().filter(|(n, _)| !n.eq_ignore_ascii_case("connection")) {
        head += &format!("{name}: {value}\r\n");
    }
    head += "Connection: close\r\n\r\n";
    to.write_all(head.as_bytes())
}
