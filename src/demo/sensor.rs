//! The IDS's end of the tap: reads the packets off the mirror port and puts the conversations together again.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    thread,
};
use tap::{
    Side,
    receive::{Heard, Receiver, listen},
};

/// A running sensor.
#[derive(Clone)]
pub(crate) struct Sensor {
    state: Arc<Mutex<State>>,
    pub(crate) address: SocketAddr,
}

#[derive(Default)]
struct State {
    heard: Vec<Heard>,
    packets: usize,
    unreadable: usize,
}

impl Sensor {
    /// Listens on a free local port.
    pub(crate) fn start() -> Result<Self, String> {
        let socket: UdpSocket = listen(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(|error| error.to_string())?;
        let address = socket.local_addr().map_err(|error| error.to_string())?;
        let state = Arc::new(Mutex::new(State::default()));
        let for_thread = Arc::clone(&state);
        thread::spawn(move || {
            let mut receiver = Receiver::new();
            let mut buffer = vec![0; 65_536];
            while let Ok(length) = socket.recv(&mut buffer) {
                let read = receiver.datagram(buffer.get(..length).unwrap_or_default());
                let mut state = for_thread.lock().unwrap_or_else(PoisonError::into_inner);
                state.packets += 1;
                match read {
                    Ok(messages) => state.heard.extend(messages),
                    Err(_) => state.unreadable += 1,
                }
            }
        });
        Ok(Self { state, address })
    }

    /// Whether a request with this first line has been heard.
    pub(crate) fn saw(&self, start: &str) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.heard.iter().any(|heard| heard.side == Side::Client && heard.start_line().starts_with(start))
    }

    /// Whether any packet held these bytes in clear.
    pub(crate) fn leaked(&self, secret: &str) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .heard
            .iter()
            .any(|heard| heard.head.contains(secret) || String::from_utf8_lossy(&heard.body).contains(secret))
    }

    /// Everything heard, request and answer on one line each.
    pub(crate) fn exchanges(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines: Vec<String> = state
            .heard
            .iter()
            .map(|heard| {
                let arrow = if heard.side == Side::Client { "→" } else { "←" };
                let (client, server) = (heard.client, heard.server);
                format!("{client} {arrow} {server}  {}", heard.start_line())
            })
            .collect();
        lines.push(format!("{} packets, {} of them unreadable", state.packets, state.unreadable));
        lines
    }
}
