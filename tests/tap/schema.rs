//! Records of every kind before an independent validator, which reads the published schema.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::Value;
use support::child::run_with_input;
use support::pair::{HOST, Pair, Setting};
use support::peers::TlsClient;
use support::{tools, wait, wire};

/// Room for about a dozen records in a burst: what comes faster is dropped, and a record tells of that.
const NARROW: &str = "rate_cap = \"100kbit/s\"";

#[test]
fn records_of_every_kind_fit_the_published_schema() {
    let pair = recorded("", |text| text);
    let setting = &pair.setting;
    let traced = format!(
        "POST /api/orders?token=secret HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\nCookie: a=b\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\nhello"
    );
    wire::get(pair.entry(), HOST, "/api/orders/42").unwrap();
    wire::request(pair.entry(), traced.as_bytes()).unwrap();
    for bytes in ["GET / HTTP/1.1\r\nHost : broken\r\n\r\n", "GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let _ = TlsClient::new(setting.at.inbound).cert(&setting.web).seconds(3).send(bytes.as_bytes());
    }
    let lines = lines(&pair, |lines| lines.len() == 4);
    assert_eq!(judged(&lines), BTreeMap::from([("exchange allowed".into(), 1), ("exchange denied".into(), 3)]));

    // The validator does refuse what does not fit.
    for (name, value) in [("status", Value::from("200")), ("unheard-of", Value::Null), ("type", Value::from("flow"))] {
        let mut record: Value = serde_json::from_str(&lines[0]).unwrap();
        record[name] = value;
        assert!(!fits(&record.to_string()), "{name}");
    }
}

#[test]
fn records_of_flows_fit_the_published_schema() {
    let pair = recorded("", |text| text.replace("[app]", "[app]\nprotocol = \"tcp\""));
    let setting = &pair.setting;
    let _ = TlsClient::new(setting.at.inbound).cert(&setting.web).seconds(3).send(b"\x00 no HTTP\r\n");
    let lines = lines(&pair, |lines| lines.len() == 1);
    assert_eq!(judged(&lines), BTreeMap::from([("flow denied".into(), 1)]));
}

#[test]
fn losses_in_an_overload_are_told_as_the_published_schema_says_and_add_up() {
    let pair = recorded(NARROW, |text| text);
    let mut asked = 0_u64;
    let is_loss = |line: &String| line.contains("\"type\":\"loss\"");
    wait::until("a loss", wait::SOON, || {
        for _ in 0..50 {
            wire::get(pair.entry(), HOST, "/api/orders/42").unwrap();
            asked += 1;
        }
        (pair.server.metrics().sum("sekisho_tap_dropped_total", &[("reason", "rate_cap")]) > 0.0).then_some(())
    });
    // At rest the last of them has told all.
    let dropped = |line: &Value| line["dropped"]["rate_cap"].as_u64().unwrap();
    let lines = lines(&pair, |lines| {
        let last = lines.iter().rfind(|line| is_loss(line)).map(|line| serde_json::from_str::<Value>(line).unwrap());
        last.is_some_and(|last| last["mirrored"].as_u64().unwrap() + dropped(&last) == asked)
    });
    let seen = judged(&lines);
    assert!(seen["loss -"] >= 1 && seen["exchange allowed"] >= 1, "{seen:?}");
    let records: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = records.iter().rfind(|record| record["type"] == "loss").unwrap();
    let exchanges = records.iter().filter(|record| record["type"] == "exchange").count() as u64;
    assert_eq!((last["matched"].as_u64(), last["mirrored"].as_u64()), (Some(asked), Some(exchanges)), "{last}");
    assert_eq!(last["dropped_total"], dropped(last), "{last}");
    let numbers: Vec<u64> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=records.len() as u64).collect::<Vec<_>>(), "no record itself is missing");
}

/// A pair whose only tap writes records to a file.
fn recorded(keys: &str, change: impl Fn(String) -> String) -> Pair {
    let setting = Setting::new();
    let path = setting.dir.path().join("records.json");
    let tap = format!("[[tap]]\nname = \"records\"\nto_sensor = \"json://{}\"\n{keys}\n", path.display());
    setting.server(|text| change(text.split("[[tap]]").next().unwrap().to_owned() + &tap)).start()
}

fn lines(pair: &Pair, are_enough: impl Fn(&[String]) -> bool) -> Vec<String> {
    wait::until("the records", wait::SOON, || {
        let text = std::fs::read_to_string(pair.setting.dir.path().join("records.json")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines: Vec<String> = whole.lines().map(str::to_owned).collect();
        are_enough(&lines).then_some(lines)
    })
}

/// How many records of each type and verdict the validator let pass; panics at one that it refuses.
fn judged(lines: &[String]) -> BTreeMap<String, usize> {
    let said = run_with_input(&mut validator(), &(lines.join("\n") + "\n"));
    let mut seen = BTreeMap::new();
    said.lines().for_each(|line| *seen.entry(line.to_owned()).or_default() += 1);
    assert_eq!(seen.values().sum::<usize>(), lines.len());
    seen
}

fn fits(line: &str) -> bool {
    use std::io::Write as _;
    let mut child = validator().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    child.wait().unwrap().success()
}

fn validator() -> std::process::Command {
    let mut python = tools::python();
    python.arg(tools::script("record_schema.py"));
    python.arg(tools::repository().join("docs/reference/tap-record.schema.json"));
    python
}
