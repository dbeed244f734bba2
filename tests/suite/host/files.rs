//! The folders of `files`: a guest reads what lies in them at that moment, changes nothing, and never comes out of them.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use millrace_tests::app::{host, options};
use reqwest::Client;

use super::{Manifest, PROBE, Probe};

/// The probe over a manifest's folder that has the folders `one` and `two`, the guest's `/first` and `/in/second`.
struct Mounted {
    probe: Probe,
    manifest: Manifest,
}

impl Mounted {
    async fn start() -> Self {
        let lines = r#"files = [{ source = "one", destination = "/first" }, { source = "two/inner", destination = "/in/second" }]"#;
        let manifest = Manifest::write(&format!("{PROBE}{lines}\n"));
        let mounted = |path: &str, text: &str| {
            let file = manifest.0.join(path);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            std::fs::write(file, text).expect("a file");
        };
        mounted("one/present", "first");
        mounted("one/deep/er/file", "deep");
        mounted("two/inner/present", "second");
        mounted("two/outside", "secret");
        mounted("outside", "secret");
        let server = host().await;
        let server = server.serve(options(manifest.path(), BTreeMap::new()));
        let probe = Probe {
            server: server.await.expect("the fixture serves"),
            client: Client::new(),
        };
        Self { probe, manifest }
    }

    async fn read(&self, path: &str) -> String {
        self.probe.text("read", path).await
    }
}

#[tokio::test]
async fn a_guest_reads_its_folders_as_they_are_now() {
    let mounted = Mounted::start().await;
    assert_eq!(mounted.read("/first/present").await, "first");
    assert_eq!(mounted.read("/first/deep/er/file").await, "deep");
    assert_eq!(mounted.read("/in/second/present").await, "second");
    std::fs::write(mounted.manifest.0.join("one/later"), "later").expect("a file");
    assert_eq!(mounted.read("/first/later").await, "later");
    std::fs::remove_file(mounted.manifest.0.join("one/later")).expect("it was there");
    assert_eq!(mounted.read("/first/later").await, "error: NotFound");
}

#[tokio::test]
async fn a_guest_can_change_nothing() {
    let mounted = Mounted::start().await;
    for folder in ["/first", "/in/second"] {
        let outcomes = mounted.probe.text("change", folder).await;
        assert_eq!(outcomes.lines().count(), 6);
        for outcome in outcomes.lines() {
            // It is the permission that is missing, not the file or the folder.
            assert!(
                outcome.ends_with(": PermissionDenied")
                    || outcome.ends_with(": ReadOnlyFilesystem"),
                "{folder}: {outcome}"
            );
        }
    }
    for folder in ["/first/deep", "/first/../one", "/", "/in", "/elsewhere"] {
        let outcomes = mounted.probe.text("change", folder).await;
        assert!(!outcomes.contains("done"), "{folder}: {outcomes}");
    }
    assert_eq!(mounted.read("/first/present").await, "first");
    let names = |folder: &str| {
        let entries = std::fs::read_dir(mounted.manifest.0.join(folder)).expect("a folder");
        entries.count()
    };
    assert_eq!((names("one"), names("two/inner")), (2, 1));
}

#[tokio::test]
async fn a_guest_never_comes_out_of_its_folders() {
    let mounted = Mounted::start().await;
    let one = mounted.manifest.0.join("one");
    for (target, name) in [
        ("../outside", "relative"),
        (
            mounted.manifest.0.join("outside").to_str().expect("text"),
            "absolute",
        ),
        ("..", "up"),
        ("/", "root"),
        ("present", "inner"),
    ] {
        symlink(target, one.join(name)).expect("a link");
    }
    assert_eq!(mounted.read("/first/inner").await, "first");
    let attempts = [
        "/first/../outside",
        "/first/deep/../../outside",
        "/first/../two/inner/present",
        "/first/deep/../../../../../../../../etc/passwd",
        "/in/second/../outside",
        "../outside",
        "first/../../outside",
        "/first/relative",
        "/first/absolute",
        "/first/up/outside",
        "/first/root/etc/passwd",
        "/etc/passwd",
        "/outside",
        "outside",
        "/first/..",
        "/",
    ];
    for path in attempts {
        let answer = mounted.read(path).await;
        assert!(answer.starts_with("error: "), "{path}: {answer}");
    }
    println!("{} ways out tried", attempts.len());
}
