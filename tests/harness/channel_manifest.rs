//! The project's manifest with one channel more, whose handler is a fixture.

use std::io::Write;
use std::path::PathBuf;

use crate::local_store::LocalStore;

/// The manifest, in a folder of its own.
pub struct ChannelManifest(LocalStore);

impl ChannelManifest {
    /// With a channel for `queue` whose handler is `tests/fixtures/handler-HANDLER`, and more lines in the table of its variables.
    pub fn new(queue: &str, handler: &str, variables: &str) -> Self {
        let store = LocalStore::new();
        let auth = [
            "supabase_jwt_secret",
            "collab_require_jwt",
            "collab_jwt_mode",
            "collab_jwks_url",
            "collab_api_key",
            "collab_jwt_issuer",
            "collab_jwt_audience",
            "database_url",
            "database_service_key",
            "wake_url",
        ];
        let known: String = auth
            .map(|name| format!("{name} = \"{{{{ {name} }}}}\"\n"))
            .concat();
        let folder = "target/wasm32-wasip2/component";
        let lines = format!(
            r#"
[[trigger.http]]
route = "/channels/{queue}"
component = "channel-{queue}"

[component.channel-{queue}]
source = "{folder}/drain.wasm"
allowed_outbound_hosts = ["{{{{ database_host }}}}", "{{{{ collab_jwks_host }}}}", "{{{{ wake_host }}}}"]

[component.channel-{queue}.dependencies]
"millrace:worker/handler@0.1.0" = {{ path = "{folder}/fixture_handler_{handler}.wasm", inherit_configuration = true }}

[component.channel-{queue}.variables]
{known}wake_key = "{{{{ tick_key }}}}"
queue = "{queue}"
{variables}
"#
        );
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(store.manifest());
        let written = file.as_mut().map(|file| file.write_all(lines.as_bytes()));
        written.expect("the manifest").expect("the manifest");
        Self(store)
    }

    /// The manifest's file.
    pub fn path(&self) -> PathBuf {
        self.0.manifest()
    }
}
