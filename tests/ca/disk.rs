//! A full disk under a CA that serves: nothing leaves that is not on record, and with room again it goes on by itself.

mod root {
    use std::collections::BTreeSet;
    use std::process::Command;

    use serde_json::json;
    use support::ca_server::CaServer;
    use support::scratch::Scratch;
    use support::{root, wait};

    use crate::setting::{CLUSTER, Setting, cluster, of_event, whole};

    /// A file system of 256 KiB; unmounted when dropped.
    struct Small(Scratch);

    impl Small {
        fn new() -> Self {
            let at = Scratch::new();
            let mount = ["-t", "tmpfs", "-o", "size=256k", "tmpfs"];
            assert!(Command::new("mount").args(mount).arg(at.path()).status().unwrap().success());
            Self(at)
        }
    }

    impl Drop for Small {
        fn drop(&mut self) {
            // Lazily: the server may still hold its files when a failed test unwinds.
            let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
        }
    }

    #[test]
    fn on_a_full_disk_nothing_is_issued_that_is_not_logged_and_with_room_it_serves_again() {
        if !root::granted("on_a_full_disk_nothing_is_issued_that_is_not_logged_and_with_room_it_serves_again") {
            return;
        }
        let small = Small::new();
        let dir = Scratch::new();
        let client = cluster(&dir);
        let home = small.0.join("ca");
        CaServer::init(&home);
        let server = CaServer::start_over(dir.path(), &home, CLUSTER);
        let mut setting = Setting { client, server, dir };
        let mut serials = BTreeSet::new();
        let mut ask = |setting: &mut Setting| {
            let token = setting.client.token("e1", json!({}));
            let answer = setting.ask(&token, json!({}));
            if let Some(serial) = answer["leaf"]["serial"].as_str() {
                serials.insert(serial.to_owned());
            }
            answer
        };
        assert_eq!(ask(&mut setting)["code"], "OK");

        let join = setting.server.join_token("spiffe://example.org/vm/db-1");
        let pod = setting.client.token("r1", json!({}));

        // To the last byte: the page of the last record may have room for some more.
        let filler = small.0.join("filler");
        let _ = std::fs::write(&filler, vec![0; 1 << 20]);
        let mut last = json!(null);
        let refused = (0..30).find(|_| {
            last = ask(&mut setting);
            last["code"] != "OK"
        });
        assert!(refused.is_some(), "the disk never filled");
        for _ in 0..5 {
            assert_eq!(last["code"], "UNAVAILABLE", "{last}");
            assert!(last["details"].as_str().unwrap().contains("issues nothing meanwhile"), "{last}");
            assert!(last["trailers"]["retry-after"].is_string(), "{last}");
            last = ask(&mut setting);
        }
        // Whoever tries again and again meanwhile, with a new key each time, has used nothing up.
        for _ in 0..6 {
            for token in [&join, &pod] {
                let answer = setting.ask(token, json!({}));
                assert_eq!(answer["code"], "UNAVAILABLE", "{answer}");
            }
        }
        wait::until("readiness to fail", wait::SOON, || (!setting.server.is_ready()).then_some(()));
        assert!(setting.server.metrics().sum("sekisho_ca_refused_total", &[("reason", "log")]) >= 6.0);
        whole(&setting.server);

        std::fs::remove_file(&filler).unwrap();
        setting.server.wait_until_ready();
        assert_eq!(ask(&mut setting)["code"], "OK");
        for token in [&join, &pod] {
            let answer = setting.ask(token, json!({}));
            assert_eq!(answer["code"], "OK", "{answer}");
            serials.insert(answer["leaf"]["serial"].as_str().unwrap().to_owned());
        }
        whole(&setting.server);
        setting.server.stop();
        let records = setting.server.records();
        let logged: BTreeSet<_> =
            of_event(&records, "issued").map(|record| record["serial"].as_str().unwrap().to_owned()).collect();
        assert_eq!(logged, serials, "what left, and what is on record");
        assert_eq!(of_event(&records, "log-resumed").count(), 1);
    }
}
