//! The demo's applications: plain, and unaware of identities.
//!
//! `orders` is an HTTP service that asks its database for each order. `orders-db` speaks a line protocol of its own: one key
//! in, one value out. Both count the connections they get, so that a scene can show that an attacker reached neither.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// What an application saw.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Seen {
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    fn request(&self, line: &str) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
    }
}

/// Starts `orders`; `database` is the local address of its sidecar for `orders-db`.
pub(crate) fn orders(listener: TcpListener, database: SocketAddr) -> Seen {
    serve(listener, move |stream, seen| {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let mut length = 0;
            let mut caller = String::from("nobody");
            loop {
                let mut header = String::new();
                reader.read_line(&mut header)?;
                let header = header.trim_end().to_ascii_lowercase();
                if header.is_empty() {
                    break;
                }
                if let Some(value) = header.strip_prefix("content-length: ") {
                    length = value.parse().unwrap_or(0);
                }
                if let Some(uri) =
                    header.strip_prefix("x-forwarded-client-cert: ").and_then(|xfcc| xfcc.split(";uri=").nth(1))
                {
                    caller = uri.split(';').next().unwrap_or_default().to_owned();
                }
            }
            let mut body = vec![0; length.min(64 * 1024)];
            reader.read_exact(&mut body)?;
            seen.request(line.trim_end());
            let id = line.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            let answer = match line.starts_with("GET") {
                true => format!("order {id}: {}; asked by {caller}\n", ask(database, id)?),
                false => format!("order written by {caller}\n"),
            };
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nset-cookie: session=demo-secret\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            )?;
        }
    })
}

fn ask(database: SocketAddr, id: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(database)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    writeln!(stream, "{id}")?;
    let mut value = String::new();
    BufReader::new(stream).read_line(&mut value)?;
    Ok(value.trim_end().to_owned())
}

/// Starts `orders-db`.
pub(crate) fn orders_db(listener: TcpListener) -> Seen {
    serve(listener, |stream, seen| {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut key = String::new();
        while reader.read_line(&mut key)? > 0 {
            seen.request(key.trim_end());
            let items = key.bytes().map(usize::from).sum::<usize>() % 9 + 1;
            writeln!(stream, "{items} lanterns")?;
            key.clear();
        }
        Ok(())
    })
}

fn serve<F>(listener: TcpListener, conversation: F) -> Seen
where
    F: Fn(&mut TcpStream, &Seen) -> std::io::Result<()> + Send + Sync + 'static,
{
    let seen = Seen::default();
    let for_thread = seen.clone();
    let conversation = Arc::new(conversation);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            for_thread.connections.fetch_add(1, Ordering::SeqCst);
            let (seen, conversation) = (for_thread.clone(), Arc::clone(&conversation));
            thread::spawn(move || {
                // A caller that leaves early ends its conversation, nothing else.
                let _ = conversation(&mut stream, &seen);
            });
        }
    });
    seen
}
