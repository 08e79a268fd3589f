//! curl: requests by a client that somebody else has written.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use crate::harness::{PATIENCE, Secret, run};

/// What it is to tell of an answer on its standard error, the body being on its standard output.
const TELL: &str =
    r#"%{stderr}{"status":%{http_code},"version":"%{http_version}","headers":%{header_json}}"#;

/// Asks one WebService.
pub(crate) struct Curl {
    base: String,
    options: Vec<String>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) status: u64,
    pub(crate) version: String,
    headers: Value,
    pub(crate) body: Vec<u8>,
}

impl Curl {
    pub(crate) fn of(web: SocketAddr) -> Self {
        Self { base: format!("http://{web}"), options: Vec::new() }
    }

    /// By TLS, by a name of the certificate that nobody has to look up.
    pub(crate) fn trusting(secret: &Secret, name: &str, web: SocketAddr) -> Self {
        let resolve = format!("{name}:{}:{}", web.port(), web.ip());
        let trusted = secret.chain().display().to_string();
        let options = ["--resolve", &resolve, "--cacert", &trusted].map(str::to_owned).into();
        Self { base: format!("https://{name}:{}", web.port()), options }
    }

    /// Where it asks.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// One request, and its answer.
    pub(crate) fn ask(&self, path: &str, options: &[&str]) -> Fetched {
        self.try_ask(path, options).unwrap_or_else(|(code, said)| panic!("curl: {code:?} {said}"))
    }

    /// The same; its exit code and what it says if there is no answer.
    pub(crate) fn try_ask(
        &self,
        path: &str,
        options: &[&str],
    ) -> Result<Fetched, (Option<i32>, String)> {
        let patience = PATIENCE.as_secs().to_string();
        let mut command = Command::new("curl");
        // What whoever runs this has configured for themselves counts for nothing.
        command.args(["--disable", "--noproxy", "*", "--silent", "--show-error", "--globoff"]);
        command.args(["--max-time", &patience, "--write-out", TELL]);
        command.args(&self.options).args(options).arg(format!("{}{path}", self.base));
        let output = run(&mut command);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            return Err((output.status.code(), told));
        }
        let told: Value =
            serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"));
        Ok(Fetched {
            status: told["status"].as_u64().unwrap(),
            version: told["version"].as_str().unwrap().to_owned(),
            headers: told["headers"].clone(),
            body: output.stdout,
        })
    }
}

impl Fetched {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The session that was made.
    pub(crate) fn session(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()["sessionid"].as_str().unwrap().to_owned()
    }

    /// All lines of a header.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.headers[name].as_array();
        lines.into_iter().flatten().map(|line| line.as_str().unwrap()).collect()
    }
}
