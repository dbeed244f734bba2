//! No job leads a webhook to this machine or to its neighbours: not by any spelling of an address, which the component refuses, and not by a name
//! that resolves to one, which the host refuses when it connects.

use millrace_tests::provider::Provider;
use serde_json::{Value, json};

use super::{Receiver, Sending, taking};

/// Spellings of hosts that lead to this machine, or would: resolvers take the first ones for 127.0.0.1.
const THIS_MACHINE: [&str; 29] = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f.1",
    "0x7f000001",
    "0X7F.0.0.1",
    "0x7f.0x0.0x0.0x1",
    "127.0.0.01",
    "0127.0.0.1",
    "127.0.0.1.",
    "127.8.8.8",
    "0.0.0.0",
    "0",
    "0x0",
    "0.0",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "app.localhost",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
];

/// Neighbours: private and shared networks, link-local, metadata services, and addresses that are nobody's.
const NEIGHBOURS: [&str; 45] = [
    "10.0.0.1",
    "10.1",
    "012.0.0.1",
    "0xa.0.0.1",
    "167772161",
    "172.16.0.1",
    "172.31.255.254",
    "192.168.0.1",
    "192.168.1",
    "3232235521",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "169.254.43518",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "0xa9.0xfe.0xa9.0xfe",
    "metadata.google.internal",
    "instance-data.ec2.internal",
    "printer.local",
    "router.home.arpa",
    "database",
    "self.alt",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "4294967295",
    "[fd00:ec2::254]",
    "[fc00::1]",
    "[fe80::1]",
    "[ff02::1]",
    "[::ffff:169.254.169.254]",
    "[::ffff:10.0.0.1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[2001:db8::1]",
    "[100::1]",
    "[fec0::1]",
];

/// Enqueues a message to each host at the receiver's port, runs, and answers with the codes.
async fn codes_at(sending: &Sending, hosts: &[&str]) -> Vec<Vec<String>> {
    let port = sending.receiver.url.rsplit(':').next().expect("a port");
    let mut jobs = Vec::new();
    for host in hosts {
        jobs.push(
            sending
                .enqueue(&json!({ "url": format!("http://{host}:{port}/") }))
                .await,
        );
    }
    while sending.run().await["claimed"].as_i64() > Some(0) {}
    let mut codes = Vec::new();
    for job in jobs {
        codes.push(sending.codes(job).await);
    }
    codes
}

#[tokio::test]
async fn no_spelling_of_a_private_address_is_called() {
    let sending = Sending::start_with(&[("webhook_allow_private", "0")]).await;
    let hosts = [&THIS_MACHINE[..], &NEIGHBOURS[..]].concat();
    let codes = codes_at(&sending, &hosts).await;
    for (host, codes) in hosts.iter().zip(codes) {
        assert_eq!(codes, ["address_forbidden"], "{host}");
    }
    assert_eq!(sending.receiver.count(), 0);
    println!("{} spellings of private hosts, all refused", hosts.len());
}

/// The component is told to let everything through, and the host is not.
#[tokio::test]
async fn the_host_refuses_what_a_name_resolves_to() {
    let sending = Sending::start_with(&[("webhook_private_host", "https://private.invalid")]).await;
    // Of these the component would let through whatever is no strange spelling; the names are resolved by the host.
    let hosts = [
        "127.0.0.1",
        "localhost",
        "self.alt",
        "LOCALHOST",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "[::]",
        "169.254.169.254",
        "10.0.0.1",
    ];
    let codes = codes_at(&sending, &hosts).await;
    for (host, codes) in hosts.iter().zip(codes) {
        assert_eq!(codes, ["address_forbidden"], "{host}");
    }
    assert_eq!(sending.receiver.count(), 0);
    println!("{} hosts refused by the host", hosts.len());
}

/// A network that is named is reached by whatever name leads there, and nothing beside it.
#[tokio::test]
async fn a_network_that_is_named_is_reached() {
    let sending = Sending::start_with(&[("webhook_private_host", "http://127.0.0.0/8:*")]).await;
    let codes = codes_at(&sending, &["127.0.0.1", "localhost", "10.0.0.1", "[::1]"]).await;
    let expected = ["", "", "address_forbidden", "address_forbidden"];
    assert_eq!(codes, expected.map(|code| vec![code.to_owned()]));
    assert_eq!(sending.receiver.count(), 2);
}

/// TLS is asked for unless it is said otherwise.
#[tokio::test]
async fn http_is_called_only_where_it_is_allowed() {
    let sending = Sending::start_with(&[("webhook_allow_http", "0")]).await;
    sending.register("acme").await;
    let job = sending.tell("acme", Value::Null).await;
    sending.run().await;
    assert_eq!(sending.codes(job).await, ["address_forbidden"]);
    let plain = Provider::start(taking as Receiver).await;
    let url = plain.url.replace("http://", "https://");
    let job = sending.enqueue(&json!({ "url": url })).await;
    sending.run().await;
    // The receiver speaks no TLS, or the host may not connect to it by https.
    assert_ne!(sending.codes(job).await, [""]);
    assert_eq!((sending.receiver.count(), plain.count()), (0, 0));
}
