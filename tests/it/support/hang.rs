//! Servers that keep a client waiting.

use super::http::listen;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

/// Where a call hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// No connection is established: nothing accepts them, and the backlog is full.
    Connect,
    /// The connection is accepted, and no answer follows.
    Answer,
    /// An answer begins, and continues one byte at a time, without end.
    Body,
}

/// A server that keeps a client waiting.
pub struct Hang {
    /// Its URL.
    pub url: String,
    taken: Arc<AtomicUsize>,
    /// The listener that accepts nothing, and the connections that fill its backlog.
    _full: Option<(TcpListener, Vec<TcpStream>)>,
}

impl Hang {
    /// Starts one.
    pub fn at(place: Place) -> Self {
        let (listener, url) = listen();
        let taken = Arc::new(AtomicUsize::new(0));
        let full = match place {
            Place::Connect => {
                let waiting = fill(listener.local_addr().unwrap());
                Some((listener, waiting))
            }
            Place::Answer => {
                take(listener, &taken, |mut client| {
                    let _ = client.read_to_end(&mut Vec::new());
                });
                None
            }
            Place::Body => {
                take(listener, &taken, trickle);
                None
            }
        };
        Self {
            url,
            taken,
            _full: full,
        }
    }

    /// How many connections it has accepted.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Connects until the backlog of the listener is full.
fn fill(address: SocketAddr) -> Vec<TcpStream> {
    let patience = Duration::from_millis(300);
    let mut waiting = Vec::new();
    while let Ok(connection) = TcpStream::connect_timeout(&address, patience) {
        waiting.push(connection);
        assert!(
            waiting.len() < 10_000,
            "the queue of connections has no end"
        );
    }
    waiting
}

fn take(listener: TcpListener, taken: &Arc<AtomicUsize>, serve: fn(TcpStream)) {
    let taken = Arc::clone(taken);
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            taken.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || serve(client));
        }
    });
}

/// Answers any request without end.
fn trickle(mut client: TcpStream) {
    // Not before the request: the client would not take that for its answer.
    let _ = client.read(&mut [0; 4096]);
    let head = b"HTTP/1.1 200 -\r\nsmithy-protocol: rpc-v2-cbor\r\ncontent-length: 1000000\r\n\r\n";
    let mut sent = client.write_all(head);
    while sent.is_ok() {
        sleep(Duration::from_millis(100));
        sent = client.write_all(b" ");
    }
}
