//! A loopback relay that ends connections on which nothing happens, as the servers in front of registries do.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How a connection ends that was idle for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is closed.
    Closed,
    /// It looks open, until somebody sends something.
    Unseen,
}

/// The running relay. It ends with this value.
pub struct IdleRelay {
    host: String,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    limit: Duration,
    ending: Ending,
    made: AtomicUsize,
    ended: AtomicUsize,
    over: AtomicBool,
}

impl IdleRelay {
    /// In front of `host:port`. TLS goes through it.
    pub fn to(upstream: &str, limit: Duration, ending: Ending) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (made, ended, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { upstream: upstream.into(), limit, ending, made, ended, over });
        let own = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if own.over.load(Ordering::SeqCst) {
                    return;
                }
                own.made.fetch_add(1, Ordering::SeqCst);
                let shared = own.clone();
                thread::spawn(move || shared.relay(client));
            }
        });
        Self { host, shared }
    }

    /// `127.0.0.1:<port>`
    pub fn host(&self) -> &str {
        &self.host
    }

    /// How many connections were made.
    pub fn made(&self) -> usize {
        self.shared.made.load(Ordering::SeqCst)
    }

    /// How many of them were ended for being idle.
    pub fn ended(&self) -> usize {
        self.shared.ended.load(Ordering::SeqCst)
    }
}

impl Drop for IdleRelay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.host);
    }
}

impl Shared {
    fn relay(&self, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(&self.upstream)?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(self.limit / 10))?;
        }
        let last = Mutex::new(Some(Instant::now()));
        thread::scope(|scope| {
            scope.spawn(|| self.copy(&server, &client, &last, false));
            self.copy(&client, &server, &last, true);
        });
        Ok(())
    }

    /// `last` is when something happened; `None` once the connection has ended.
    fn copy(&self, mut from: &TcpStream, mut to: &TcpStream, last: &Mutex<Option<Instant>>, from_client: bool) {
        let mut buffer = [0; 64 << 10];
        loop {
            let read = from.read(&mut buffer);
            let waits = read.as_ref().is_err_and(|e| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
            let read = read.unwrap_or(0);
            let ends = {
                let mut last = last.lock().unwrap();
                let idle = last.is_some_and(|last| last.elapsed() > self.limit);
                let late = match self.ending {
                    Ending::Closed => idle && waits,
                    Ending::Unseen => idle && from_client && read > 0,
                };
                if late {
                    self.ended.fetch_add(1, Ordering::SeqCst);
                }
                if late || last.is_none() || (read == 0 && !waits) {
                    *last = None;
                } else if read > 0 {
                    *last = Some(Instant::now());
                }
                last.is_none()
            };
            if ends || to.write_all(buffer.get(..read).unwrap_or_default()).is_err() {
                let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                return;
            }
        }
    }
}
