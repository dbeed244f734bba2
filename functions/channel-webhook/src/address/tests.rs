//! Spellings of hosts that lead home, and of such that do not.

use std::time::Duration;

use super::*;
use crate::config::Mode;

fn settings(allows_http: bool, allows_private: bool) -> Settings {
    Settings {
        mode: Mode::Send,
        allows_http,
        allows_private,
        own: vec![("rest.example.com".to_owned(), 443)],
        timeout: Duration::from_secs(1),
    }
}

/// Hosts that are refused, however they are spelled.
const PRIVATE_HOSTS: [&str; 79] = [
    // Loopback, plainly and in the spellings that inet_aton takes.
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f.1",
    "0x7f000001",
    "0X7F.0.0.1",
    "0x7f.0x0.0x0.0x1",
    "127.0.0.01",
    "127.000.000.001",
    "0127.0.0.1",
    "127.0.0.1.",
    "127.0.0.0x1",
    "4294967295",
    "0",
    "0x0",
    "0.0.0.0",
    "0.0",
    "0.1.2.3",
    // Private, shared, link-local, reserved.
    "10.0.0.1",
    "10.255.255.255",
    "012.0.0.1",
    "0xa.0.0.1",
    "10.1",
    "167772161",
    "100.64.0.1",
    "100.127.255.254",
    "172.16.0.1",
    "172.31.255.254",
    "192.168.0.1",
    "192.168.1",
    "3232235521",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    // Metadata services of clouds.
    "169.254.169.254",
    "169.254.43518",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "0xa9.0xfe.0xa9.0xfe",
    "metadata.google.internal",
    "METADATA.google.internal.",
    "instance-data.ec2.internal",
    "100.100.100.200",
    "[fd00:ec2::254]",
    // IPv6.
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:169.254.169.254]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fc00::1]",
    "[fdff::1]",
    "[ff02::1]",
    "[2001:db8::1]",
    // Names that stay at home.
    "localhost",
    "LOCALHOST",
    "localhost.",
    "app.localhost",
    "self.alt",
    "printer.local",
    "database",
];

#[test]
fn no_spelling_of_a_private_address_is_called() {
    let mut refused = 0;
    for host in PRIVATE_HOSTS {
        for url in [
            format!("https://{host}/"),
            format!("https://{host}:8443/x?y"),
            format!("http://{host}/"),
        ] {
            let answer = check(&url, &settings(true, false));
            assert!(answer.is_err(), "{url}");
            refused += 1;
        }
    }
    println!(
        "{} spellings of private hosts, {refused} URLs, all refused",
        PRIVATE_HOSTS.len()
    );
}

#[test]
fn strange_urls_are_refused_even_where_private_ones_are_allowed() {
    let strange = [
        "",
        "a.example",
        "/path",
        "ftp://a.example/",
        "gopher://a.example/",
        "file:///etc/passwd",
        "javascript:1",
        "https://",
        "https:///x",
        "https://user@a.example/",
        "https://user:word@a.example/",
        "https://127.0.0.1@a.example/",
        "https://a.example@127.0.0.1/",
        "https://a.example:/@127.0.0.1/x@y:z/ ",
        "https://a.example:99999/",
        "https://a.example:-1/",
        "https://a.example:0x50/",
        "https://a..example/",
        "https://.a.example/",
        "https://a.example../",
        "https://a%2eexample/",
        "https://%6cocalhost/",
        "https://127。0。0。1/",
        "https://①②⑦.0.0.1/",
        "https://a.example\\@b.example/",
        "https://a.example\r\nx: y/",
        "https://a b.example/",
        "https://[::1/",
        "https://[::1]x/",
        "https://[127.0.0.1]/",
        "https://[::ffff:1.2.3]/",
        "https://1.2.3.4.5/",
        "https://256.1.1.1/",
        "https://a.0x1/",
        "https://*.example/",
    ];
    for url in strange {
        assert!(check(url, &settings(true, true)).is_err(), "{url}");
    }
    let long = format!("https://a.example/{}", "x".repeat(2048));
    assert!(check(&long, &settings(true, true)).is_err());
    println!("{} strange URLs, all refused", strange.len() + 1);
}

#[test]
fn the_public_internet_is_called() {
    for url in [
        "https://a.example/",
        "https://a.example",
        "https://a.example:8443/hook?x=1#y",
        "https://A.Example./",
        "https://xn--bcher-kva.example/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]:443/",
        "https://localhost.example/",
        "https://internal.example/",
        "https://0x7f.example/",
    ] {
        assert!(check(url, &settings(false, false)).is_ok(), "{url}");
    }
}

#[test]
fn what_is_allowed_widens_one_thing_each() {
    let http = "http://a.example/";
    assert!(check(http, &settings(false, true)).is_err());
    assert!(check(http, &settings(true, false)).is_ok());
    let private = "https://127.0.0.1:9/";
    assert!(check(private, &settings(true, false)).is_err());
    assert!(check(private, &settings(false, true)).is_ok());
    for port in [1, 22, 25, 80, 1023] {
        let url = format!("https://a.example:{port}/");
        assert!(check(&url, &settings(true, false)).is_err(), "{url}");
        assert!(check(&url, &settings(true, true)).is_ok(), "{url}");
    }
}

#[test]
fn the_application_s_own_services_are_refused() {
    for (url, is_refused) in [
        ("https://rest.example.com/", true),
        ("https://REST.example.com:443/in", true),
        ("https://rest.example.com./in", true),
        ("https://rest.example.com:8443/", false),
        ("https://hooks.example.com/", false),
    ] {
        assert_eq!(
            check(url, &settings(true, false)).is_err(),
            is_refused,
            "{url}"
        );
        assert!(check(url, &settings(true, true)).is_ok(), "{url}");
    }
}
