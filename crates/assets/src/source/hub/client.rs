//! Requests to the hub. The token goes to the endpoint's own origin and to nobody else, whatever a redirect says.

use std::{io::Read as _, time::Duration};

use ureq::{
    Agent, Body,
    http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header},
};

use super::cache;

/// Where the hub is, unless `HF_ENDPOINT` says otherwise.
const ENDPOINT: &str = "https://huggingface.co";
/// Redirects that one request follows, as browsers and `requests` bound them.
const MOST_REDIRECTS: usize = 10;
/// A server that says nothing for so long is not waited for.
const CONNECT: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_mins(1);
/// Most bytes of a list of files; the largest data sets have some ten thousand.
const LONGEST_LIST: u64 = 64 << 20;

/// Where files come from, and what may be shown there.
pub(super) struct Client {
    agent: Agent,
    endpoint: Uri,
    token: Option<HeaderValue>,
}

/// What the hub itself says of a file; what other hosts say of it is not listened to.
#[derive(Debug, Default)]
pub(super) struct About {
    /// The file's hash: SHA-256 of a large one, the SHA-1 of git's blob of the others.
    pub(super) etag: Option<String>,
    /// The commit that the revision stands for.
    pub(super) commit: Option<String>,
    /// Bytes of the file.
    pub(super) size: Option<u64>,
    /// The hub's word for what it does not have.
    missing: Option<String>,
}

/// A response that is no redirect.
pub(super) struct Reply {
    pub(super) about: About,
    pub(super) response: Response<Body>,
}

impl Client {
    /// As the environment says.
    pub(super) fn from_environment() -> Result<Self, String> {
        let endpoint = super::variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Self::new(&endpoint, cache::token(super::variable).as_deref())
    }

    /// Errors never show the endpoint, which may have a password in it, or the token.
    pub(super) fn new(endpoint: &str, token: Option<&str>) -> Result<Self, String> {
        let endpoint: Uri = endpoint
            .trim()
            .trim_end_matches('/')
            .parse()
            .ok()
            .filter(|endpoint| origin(endpoint).is_some())
            .ok_or("HF_ENDPOINT is no address of a server; write `https://host`, or leave it out")?;
        let token = token.map(|token| HeaderValue::from_str(&format!("Bearer {token}"))).transpose();
        let mut token = token.map_err(|_| "the token has characters that no token has; copy it again")?;
        if let Some(token) = &mut token {
            token.set_sensitive(true);
        }
        let agent = Agent::config_builder()
            .max_redirects(0) // followed here, one by one
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("lora-lab/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Ok(Self { agent, endpoint, token })
    }

    /// Asks for a path below the endpoint, from a byte on.
    pub(super) fn get(&self, path: &str, from: u64) -> Result<Reply, String> {
        let mut at: Uri = format!("{}{path}", self.base()).parse().map_err(|_| "not an address on the hub")?;
        let mut about = About::default();
        for _ in 0..=MOST_REDIRECTS {
            let ours = origin(&at) == origin(&self.endpoint);
            let mut request = self.agent.get(&at).header(header::ACCEPT_ENCODING, "identity");
            if let Some(token) = self.token.as_ref().filter(|_| ours) {
                request = request.header(header::AUTHORIZATION, token);
            }
            if from > 0 {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            let response = request.call().map_err(|error| format!("{}: {error}", host(&at)))?;
            if ours {
                about.listen(response.headers());
            }
            if !response.status().is_redirection() {
                return Ok(Reply { about, response });
            }
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            at = location
                .and_then(|location| followed(&at, location))
                .ok_or_else(|| format!("{} answers {} to nowhere", host(&at), response.status()))?;
        }
        Err(format!("more than {MOST_REDIRECTS} redirects"))
    }

    /// The commit of a revision, and the names of its files.
    pub(super) fn list(&self, path: &str) -> Result<(Option<String>, Vec<String>), String> {
        let mut reply = self.get(path, 0)?;
        reply.found()?.ok_or("no such repository or revision")?;
        let mut content = Vec::new();
        let body = reply.response.body_mut().as_reader().take(LONGEST_LIST + 1).read_to_end(&mut content);
        body.map_err(|error| format!("the list of files was cut: {error}"))?;
        if content.len() as u64 > LONGEST_LIST {
            return Err(format!("the list of files has more than {LONGEST_LIST} bytes"));
        }
        let info: serde_json::Value =
            serde_json::from_slice(&content).map_err(|error| format!("the list of files is not JSON: {error}"))?;
        let files = info["siblings"].as_array().ok_or("the list of files has no `siblings`")?;
        let names = files.iter().filter_map(|file| Some(file["rfilename"].as_str()?.to_owned()));
        Ok((info["sha"].as_str().map(str::to_owned), names.collect()))
    }

    fn base(&self) -> String {
        self.endpoint.to_string().trim_end_matches('/').to_owned()
    }
}

impl About {
    fn listen(&mut self, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        // A large file's own hash and size stand beside those of the redirect to it.
        if let Some(etag) = text("x-linked-etag").or_else(|| text("etag")) {
            self.etag = Some(etag.trim_start_matches("W/").trim_matches('"').to_owned());
        }
        if let Some(commit) = text("x-repo-commit") {
            self.commit = Some(commit.to_owned());
        }
        if let Some(size) = text("x-linked-size").and_then(|size| size.parse().ok()) {
            self.size = Some(size);
        }
        self.missing = text("x-error-code").map(str::to_owned);
    }
}

impl Reply {
    /// Nothing where the hub has no such file; an error where it does not answer with one.
    pub(super) fn found(&self) -> Result<Option<()>, String> {
        let way_out = "it is private, gated, or not there; set HF_TOKEN to a token that may read it";
        match (self.response.status(), self.about.missing.as_deref()) {
            (StatusCode::OK | StatusCode::PARTIAL_CONTENT, _) => Ok(Some(())),
            (StatusCode::NOT_FOUND, Some("RepoNotFound")) => Err("no such repository".to_owned()),
            (StatusCode::NOT_FOUND, Some("RevisionNotFound")) => Err("no such revision".to_owned()),
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), _) => {
                Err(format!("the hub answers {status}: {way_out}"))
            }
            (status, _) => Err(format!("the hub answers {status}")),
        }
    }

    /// The length that this response says it has.
    pub(super) fn length(&self) -> Option<u64> {
        self.response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// Whether the response goes on from a byte of the file; otherwise it starts anew.
    pub(super) fn goes_on_from(&self, byte: u64) -> bool {
        let range = self.response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
        self.response.status() == StatusCode::PARTIAL_CONTENT
            && range.is_some_and(|range| range.starts_with(&format!("bytes {byte}-")))
    }
}

/// Scheme, host and port: what two addresses of one server share.
fn origin(address: &Uri) -> Option<(&str, String, u16)> {
    let scheme = address.scheme_str()?;
    let usual = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    Some((scheme, address.host()?.to_ascii_lowercase(), address.port_u16().unwrap_or(usual)))
}

/// A redirect's address may carry a signature that opens the file to everybody: errors name the host alone.
fn host(address: &Uri) -> &str {
    address.host().unwrap_or("the hub")
}

/// Where a redirect leads: never from an encrypted address to an open one.
fn followed(at: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (at.scheme_str()?, at.authority()?);
    let is_scheme =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let next = if location.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme)) {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = at.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let next: Uri = next.parse().ok()?;
    let (to, ..) = origin(&next)?;
    (scheme == "http" || to == "https").then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_browsers_follow_them() {
        let to = |location: &str| followed(&"https://a.co/x/y?z".parse().unwrap(), location).map(|uri| uri.to_string());
        assert_eq!(to("/b?u=http://c/d").as_deref(), Some("https://a.co/b?u=http://c/d"));
        assert_eq!(to("b").as_deref(), Some("https://a.co/x/b"));
        assert_eq!(to("//cdn.co/b").as_deref(), Some("https://cdn.co/b"));
        assert_eq!(to("https://cdn.co/b?Signature=s").as_deref(), Some("https://cdn.co/b?Signature=s"));
        for refused in ["http://a.co/b", "file:///etc/passwd", "ftp://a.co/b", "https://"] {
            assert_eq!(to(refused), None, "{refused}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a: &str, b: &str| origin(&a.parse().unwrap()) == origin(&b.parse().unwrap());
        assert!(same("https://HuggingFace.co/a", "https://huggingface.co:443/b"));
        for other in ["http://huggingface.co", "https://huggingface.co:8443", "https://huggingface.co.evil.org"] {
            assert!(!same("https://huggingface.co", other), "{other}");
        }
    }

    #[test]
    fn a_wrong_endpoint_or_token_is_said_and_not_shown() {
        for wrong in ["huggingface.co", "", "file:///tmp", "https://user:secret@", "ftp://secret"] {
            let said = Client::new(wrong, None).err().unwrap();
            assert!(said.contains("HF_ENDPOINT") && !said.contains("secret"), "{said}");
        }
        let said = Client::new(ENDPOINT, Some("hf_\nsecret")).err().unwrap();
        assert!(said.contains("the token") && !said.contains("secret"), "{said}");
    }
}
