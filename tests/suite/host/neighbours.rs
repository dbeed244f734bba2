//! `*` in `allowed_outbound_hosts` is the public internet: whatever an address is spelled like, and whatever a name resolves to, a component is led to a
//! neighbour only by an entry that names it.

use tokio::net::TcpListener;

use super::{Probe, answer_each};

/// Spellings of this machine, most of them as resolvers take them.
const SPELLINGS: [&str; 26] = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f.1",
    "0x7f000001",
    "127.0.0.01",
    "127.8.8.8",
    "0.0.0.0",
    "0",
    "0x0",
    "localhost",
    "LOCALHOST",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "169.254.169.254",
    "10.0.0.1",
    "192.168.0.1",
    "[fd00:ec2::254]",
];

/// The probe with these hosts, and a server of this machine's that answers everybody, at that port.
async fn start(hosts: &str) -> (Probe, u16) {
    let target = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let port = target.local_addr().expect("its address").port();
    tokio::spawn(answer_each(target));
    let lines = format!("allowed_outbound_hosts = [{hosts}]\n");
    (Probe::start(&lines).await, port)
}

#[tokio::test]
async fn any_host_is_no_neighbour() {
    let (probe, port) = start("\"http://*:*\"").await;
    for host in SPELLINGS {
        let answer = probe.text("fetch", &format!("http://{host}:{port}/")).await;
        // What no resolver takes for an address or a name leads nowhere at all.
        let is_refused = answer.contains("DestinationIpProhibited") || answer.contains("DnsError");
        assert!(is_refused, "{host}: {answer}");
    }
    let plain = probe.text("fetch", &format!("http://127.1:{port}/")).await;
    assert!(plain.contains("DestinationIpProhibited"), "{plain}");
    let itself = probe.text("fetch", "http://self.alt/probe/x/served").await;
    assert!(itself.contains("HttpRequestDenied"), "{itself}");
    println!("{} spellings of neighbours, all refused", SPELLINGS.len());
}

#[tokio::test]
async fn a_neighbour_that_is_named_is_reached() {
    for (hosts, reached, refused) in [
        (
            "\"http://*:*\", \"http://localhost:*\"",
            vec!["localhost"],
            vec!["127.0.0.1", "[::1]"],
        ),
        (
            "\"http://*:*\", \"http://127.0.0.0/8:*\"",
            vec!["127.0.0.1", "localhost", "127.1"],
            vec!["[::1]", "10.0.0.1"],
        ),
        (
            "\"http://*:*\", \"https://127.0.0.0/8:*\"",
            vec![],
            vec!["127.0.0.1", "localhost"],
        ),
        (
            "\"http://*:*\", \"http://127.0.0.0/8\"",
            vec![],
            vec!["127.0.0.1", "localhost"],
        ),
        (
            "\"http://127.0.0.1:*\"",
            vec!["127.0.0.1"],
            vec!["localhost"],
        ),
    ] {
        let (probe, port) = start(hosts).await;
        for host in reached {
            let answer = probe.text("fetch", &format!("http://{host}:{port}/")).await;
            assert_eq!(answer, "status: 200", "{host} with {hosts}");
        }
        for host in refused {
            let answer = probe.text("fetch", &format!("http://{host}:{port}/")).await;
            assert!(answer.starts_with("error"), "{host} with {hosts}: {answer}");
        }
    }
}

/// A receiver without TLS is not spoken to in the clear: the handshake fails.
#[tokio::test]
async fn https_is_tls() {
    let (probe, port) = start("\"https://*:*\", \"https://127.0.0.0/8:*\"").await;
    let answer = probe
        .text("fetch", &format!("https://localhost:{port}/"))
        .await;
    assert!(
        answer.starts_with("error") && !answer.contains("Prohibited") && !answer.contains("Denied"),
        "{answer}"
    );
}
