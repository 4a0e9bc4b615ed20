//! Which request comes next: always the same one, or one after another for every rule or every service.

use std::borrow::Cow;

use crate::setup;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mix {
    /// One order.
    Orders,
    /// One path per rule, so many.
    Rules(usize),
    /// One order of each service, so many.
    Services(usize),
}

/// The request that is measured wherever rules and services are not.
pub(crate) const ORDERS: &[u8] =
    b"GET /api/orders/42 HTTP/1.1\r\nhost: orders.shop.svc\r\nuser-agent: compare\r\naccept: */*\r\n\r\n";

impl Mix {
    /// The `number`th request.
    pub(crate) fn request(self, number: usize) -> Cow<'static, [u8]> {
        let (path, host) = match self {
            Self::Orders => return Cow::Borrowed(ORDERS),
            Self::Rules(0) => ("/api/orders/42".to_owned(), setup::service(0)),
            Self::Rules(count) => (format!("/api/r{}/42", scattered(number, count)), setup::service(0)),
            Self::Services(count) => ("/api/orders/42".to_owned(), setup::service(number % count)),
        };
        let text = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: compare\r\naccept: */*\r\n\r\n");
        Cow::Owned(text.into_bytes())
    }

    pub(crate) fn to_words(self) -> (&'static str, usize) {
        match self {
            Self::Orders => ("orders", 0),
            Self::Rules(count) => ("rules", count),
            Self::Services(count) => ("services", count),
        }
    }

    pub(crate) fn of_words(word: &str, count: usize) -> Self {
        match word {
            "rules" => Self::Rules(count),
            "services" => Self::Services(count),
            _ => Self::Orders,
        }
    }
}

/// Not in the order of the file. 7919 is a prime that divides none of the counts, so each number comes equally often.
fn scattered(number: usize, count: usize) -> usize {
    number.wrapping_mul(7919) % count
}
