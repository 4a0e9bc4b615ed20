//! The scenes: what is told, what is done, and what must come of it.

use super::{attacker, client, eventually, world::World};
use std::{fs, time::Duration};

/// One scene.
pub(crate) struct Scene {
    pub(crate) title: &'static str,
    pub(crate) told: &'static str,
    pub(crate) play: fn(&mut World) -> Result<Outcome, String>,
}

/// What came of it, when it went as told.
pub(crate) struct Outcome {
    pub(crate) verdict: &'static str,
    pub(crate) summary: String,
    pub(crate) lines: Vec<String>,
}

/// In the order they are played.
pub(crate) const ALL: [Scene; 9] = [
    Scene {
        title: "web reads an order",
        told: "rule web-reads-orders names it; orders asks orders-db over its own mutual TLS; the answer names the caller",
        play: allowed,
    },
    Scene {
        title: "web writes an order",
        told: "no rule names POST: refused, and the application does not hear of it",
        play: writes,
    },
    Scene {
        title: "web asks for an order that is no number",
        told: "the rule says {id:uint}: refused",
        play: not_a_number,
    },
    Scene {
        title: "web climbs out of the path",
        told: "/api/orders/../admin has no one reading: 400, before any rule is asked",
        play: dot_segment,
    },
    Scene {
        title: "a valid certificate of another namespace",
        told: "the attacker's certificate is from the same CA, its identity is not in the rule: refused",
        play: other_namespace,
    },
    Scene {
        title: "no certificate",
        told: "plain HTTP, then TLS without a certificate: not one byte of HTTP is answered",
        play: no_certificate,
    },
    Scene {
        title: "an impostor answers for orders",
        told: "web's sidecar expects shop/orders and gets another identity: no request is sent",
        play: impostor,
    },
    Scene {
        title: "a new rule comes into force",
        told: "the file now names POST: no restart, no connection lost, generation 2",
        play: reload,
    },
    Scene {
        title: "the IDS has seen it all",
        told: "allowed and refused requests are on the mirror port in clear; credentials are masked",
        play: mirrored,
    },
];

const HOST: &str = "orders.shop.svc";

fn allowed(world: &mut World) -> Result<Outcome, String> {
    let answer = client::request(world.at.web_orders, "GET", "/api/orders/42", HOST, "")?;
    expect_status(&answer, 200)?;
    let caller = "spiffe://demo.example/ns/shop/sa/web";
    if !answer.body.contains(caller) {
        return Err(format!("the application was not told who calls: {}", answer.body));
    }
    if world.orders_db.requests() != ["42"] {
        return Err(format!("the database saw {:?}", world.orders_db.requests()));
    }
    Ok(Outcome {
        verdict: "allowed",
        summary: "200, by rule web-reads-orders and, for the database, only-orders".to_owned(),
        lines: vec![format!("GET /api/orders/42 → 200: {}", answer.body.trim_end())],
    })
}

fn writes(world: &mut World) -> Result<Outcome, String> {
    refused_request(world, "POST", "/api/orders", 403, "RBAC: access denied", "rbac_access_denied")
}

fn not_a_number(world: &mut World) -> Result<Outcome, String> {
    refused_request(world, "GET", "/api/orders/x", 403, "RBAC: access denied", "rbac_access_denied")
}

fn dot_segment(world: &mut World) -> Result<Outcome, String> {
    // The caller's own sidecar would refuse it as well; this goes through it, as an application's request would.
    let answer = client::request(world.at.web_orders, "GET", "/api/orders/../admin", HOST, "")?;
    expect_status(&answer, 400)?;
    let refusal = world.refusal("web", "dot_segment").ok_or("no refusal line names the dot segment")?;
    Ok(Outcome {
        verdict: "refused",
        summary: format!("400 {}", answer.body.trim_end()),
        lines: vec![format!("GET /api/orders/../admin → 400: {}", answer.body.trim_end()), refusal.line()],
    })
}

fn refused_request(
    world: &mut World,
    method: &str,
    target: &str,
    status: u16,
    body: &str,
    reason: &str,
) -> Result<Outcome, String> {
    let before = world.orders.requests().len();
    let answer = client::request(world.at.web_orders, method, target, HOST, "")?;
    expect_status(&answer, status)?;
    if !answer.body.contains(body) {
        return Err(format!("the body says {:?}", answer.body));
    }
    let refusal = world.refusal("orders", &format!("{method} {target}:")).ok_or("no refusal line")?;
    if refusal.reason != reason {
        return Err(format!("the reason given is {}", refusal.reason));
    }
    if world.orders.requests().len() != before {
        return Err("the application saw the request".to_owned());
    }
    Ok(Outcome {
        verdict: "refused",
        summary: format!("{status} {}, rule: {}", answer.body.trim_end(), refusal.rule),
        lines: vec![format!("{method} {target} → {status}: {}", answer.body.trim_end()), refusal.line()],
    })
}

fn other_namespace(world: &mut World) -> Result<Outcome, String> {
    let before = world.orders.connections();
    let answer = client::request(world.at.attacker_orders, "GET", "/api/orders/42", HOST, "")?;
    expect_status(&answer, 403)?;
    let refusal = world.refusal("orders", "other/sa/attacker").ok_or("no refusal line names the attacker")?;
    if world.orders.connections() != before {
        return Err("the application saw a connection".to_owned());
    }
    Ok(Outcome {
        verdict: "refused",
        summary: format!("403, rule: {}, peer: {}", refusal.rule, refusal.peer),
        lines: vec![format!("GET /api/orders/42 → 403: {}", answer.body.trim_end()), refusal.line()],
    })
}

fn no_certificate(world: &mut World) -> Result<Outcome, String> {
    let before = world.orders.connections();
    let plain = client::exchange(world.at.orders_inbound, b"GET /api/orders/42 HTTP/1.1\r\nhost: orders\r\n\r\n")?;
    if plain.starts_with(b"HTTP/") {
        return Err("plain HTTP was answered".to_owned());
    }
    let tls = attacker::without_certificate(world.at.orders_inbound)?;
    if !tls.answer.is_empty() {
        return Err("a TLS client without a certificate was answered".to_owned());
    }
    let refusal =
        world.refusal("orders", "no_certificate").ok_or("no refusal line says that the certificate is missing")?;
    if world.orders.connections() != before {
        return Err("the application saw a connection".to_owned());
    }
    Ok(Outcome {
        verdict: "refused",
        summary: "no answer; the handshake ended with an alert".to_owned(),
        lines: vec![
            format!("plain HTTP → {} bytes, none of them HTTP", plain.len()),
            format!("TLS without a certificate → {}", tls.ended),
            refusal.line(),
        ],
    })
}

fn impostor(world: &mut World) -> Result<Outcome, String> {
    let answer = client::request(world.at.web_impostor, "GET", "/api/orders/42", HOST, "")?;
    expect_status(&answer, 503)?;
    let refusal = world.refusal("web", "upstream_tls").ok_or("no refusal line of web's sidecar")?;
    if world.impostor.connections() != 0 {
        return Err("the impostor saw a request".to_owned());
    }
    Ok(Outcome {
        verdict: "refused",
        summary: "503 to web; the impostor got no request".to_owned(),
        lines: vec![format!("GET /api/orders/42 → 503: {}", answer.body.trim_end()), refusal.line()],
    })
}

fn reload(world: &mut World) -> Result<Outcome, String> {
    fs::rename(world.dir.join("orders.next"), world.dir.join("orders.toml")).map_err(|error| error.to_string())?;
    let in_force = eventually(Duration::from_secs(10), || {
        world.admin("/policy/status").is_ok_and(|status| status.contains("\"generation\": 2"))
    });
    if !in_force {
        return Err("generation 2 did not come".to_owned());
    }
    let answer = client::request(world.at.web_orders, "POST", "/api/orders", HOST, "one lantern")?;
    expect_status(&answer, 200)?;
    Ok(Outcome {
        verdict: "allowed",
        summary: "200, by rule web-reads-orders of generation 2".to_owned(),
        lines: vec![format!("POST /api/orders → 200: {}", answer.body.trim_end())],
    })
}

fn mirrored(world: &mut World) -> Result<Outcome, String> {
    let wanted = ["GET /api/orders/42 ", "POST /api/orders ", "GET /api/orders/x "];
    if !eventually(Duration::from_secs(5), || wanted.iter().all(|line| world.sensor.saw(line))) {
        let missing: Vec<_> = wanted.iter().filter(|line| !world.sensor.saw(line)).collect();
        return Err(format!("the IDS did not see {missing:?}"));
    }
    if world.sensor.leaked("demo-secret") {
        return Err("a credential is on the mirror port".to_owned());
    }
    let metrics = world.admin("/stats/prometheus")?;
    let counters = metrics.lines().filter(|line| line.starts_with("sekisho_tap_m")).map(str::to_owned).collect();
    Ok(Outcome {
        verdict: "mirrored",
        summary: "allowed and refused requests, credentials masked".to_owned(),
        lines: counters,
    })
}

fn expect_status(answer: &client::Answer, status: u16) -> Result<(), String> {
    if answer.status == status {
        Ok(())
    } else {
        Err(format!("expected {status}, got {}: {}", answer.status, answer.body.trim_end()))
    }
}
