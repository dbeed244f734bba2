//! An S3 store: a GET presigned with AWS Signature Version 4, made here without asking the store. So a link to an object that
//! does not exist is made as well; the store answers it with 404.

use std::time::Duration;

use jiff::Timestamp;
use millrace_contract::signing::Wanted;
use millrace_kit::{Problem, variable};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use url::Url;

/// A presigned URL of the object, good from `now` (seconds since 1970).
///
/// # Errors
/// 503 `signing_not_configured` without credentials; 500 `misconfigured` for a variable that means nothing, or a bucket
/// whose name can be no part of the endpoint's host.
pub async fn link(wanted: &Wanted, now: u64) -> Result<String, Problem> {
    let region = variable::get("s3_region").await?;
    let endpoint = match variable::get("s3_endpoint").await?.as_str() {
        "" => format!("https://s3.{region}.amazonaws.com"),
        endpoint => endpoint.to_owned(),
    };
    let store = Store {
        endpoint: Url::parse(&endpoint)
            .map_err(|_| variable::wrong("s3_endpoint", "is not a URL"))?,
        path_style: match variable::get("s3_path_style").await?.as_str() {
            "1" | "true" => true,
            "" | "0" | "false" => false,
            _ => return Err(variable::wrong("s3_path_style", "is neither 1 nor 0")),
        },
        region,
        credentials: credentials().await?,
    };
    let url = store.presigned(wanted.bucket(), wanted.path(), wanted.expires(), now);
    url.ok_or_else(|| variable::wrong("s3_endpoint", "is not one that the bucket's name goes with"))
}

async fn credentials() -> Result<Credentials, Problem> {
    let key = variable::get("s3_access_key_id").await?;
    let secret = variable::get("s3_secret_access_key").await?;
    if key.is_empty() || secret.is_empty() {
        let hint = "set the variables s3_access_key_id and s3_secret_access_key";
        return Err(super::not_configured(hint));
    }
    Ok(match variable::get("s3_session_token").await?.as_str() {
        "" => Credentials::new(key, secret),
        token => Credentials::new_with_token(key, secret, token),
    })
}

/// Where objects are and with which credentials they may be read.
struct Store {
    endpoint: Url,
    path_style: bool,
    region: String,
    credentials: Credentials,
}

impl Store {
    /// The presigned URL of an object; `None` where endpoint and bucket make no URL together.
    fn presigned(&self, bucket: &str, key: &str, expires: u32, now: u64) -> Option<String> {
        let style = match self.path_style {
            true => UrlStyle::Path,
            false => UrlStyle::VirtualHost,
        };
        let (endpoint, region) = (self.endpoint.clone(), self.region.clone());
        let bucket = Bucket::new(endpoint, style, bucket.to_owned(), region).ok()?;
        let now = Timestamp::from_second(i64::try_from(now).ok()?).ok()?;
        let object = bucket.get_object(Some(&self.credentials), key);
        let url = object.sign_with_time(Duration::from_secs(expires.into()), &now);
        Some(url.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    /// What an SDK made, and of what.
    #[derive(Deserialize)]
    struct Vectors {
        made_by: String,
        vectors: Vec<Vector>,
    }

    #[derive(Deserialize)]
    struct Vector {
        endpoint: String,
        path_style: bool,
        region: String,
        bucket: String,
        key: String,
        key_id: String,
        secret: String,
        token: Option<String>,
        expires: u32,
        instant: u64,
        url: String,
    }

    /// A URL whose parameters' order does not matter, nor whether a scheme's own port is written; nothing is decoded.
    fn parts(url: &str) -> (String, BTreeMap<&str, &str>) {
        let (place, query) = url.split_once('?').unwrap();
        let port = if place.starts_with("https:") {
            ":443/"
        } else {
            ":80/"
        };
        let place = place.replacen(port, "/", 1);
        let parameters: Vec<_> = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap())
            .collect();
        let count = parameters.len();
        let parameters = BTreeMap::from_iter(parameters);
        assert_eq!(parameters.len(), count, "a parameter came twice: {url}");
        (place, parameters)
    }

    fn presigned(vector: &Vector) -> Option<String> {
        let (key_id, secret) = (&*vector.key_id, &*vector.secret);
        let store = Store {
            endpoint: Url::parse(&vector.endpoint).unwrap(),
            path_style: vector.path_style,
            region: vector.region.clone(),
            credentials: match &vector.token {
                None => Credentials::new(key_id, secret),
                Some(token) => Credentials::new_with_token(key_id, secret, &**token),
            },
        };
        store.presigned(&vector.bucket, &vector.key, vector.expires, vector.instant)
    }

    #[test]
    fn urls_equal_those_of_the_official_sdks() {
        for file in [
            include_str!("../tests/vectors/boto3.json"),
            include_str!("../tests/vectors/smithy.json"),
        ] {
            let Vectors { made_by, vectors } = serde_json::from_str(file).unwrap();
            assert!(vectors.len() >= 40, "{made_by}");
            for vector in &vectors {
                let ours = presigned(vector).unwrap();
                assert_eq!(parts(&ours), parts(&vector.url), "{made_by}: {ours}");
            }
            println!("{} presigned URLs equal those of {made_by}", vectors.len());
        }
    }

    #[test]
    fn a_bucket_that_can_be_no_part_of_a_host_is_none() {
        let Vectors { mut vectors, .. } =
            serde_json::from_str(include_str!("../tests/vectors/boto3.json")).unwrap();
        let vector = &mut vectors[0];
        vector.bucket = "under_score".to_owned();
        assert!(presigned(vector).is_some());
        for (endpoint, bucket) in [
            ("http://127.0.0.1:9000", "b"),
            ("https://s3.example", "UPPER"),
            ("ftp://s3.example", "b"),
        ] {
            (vector.endpoint, vector.bucket) = (endpoint.to_owned(), bucket.to_owned());
            assert_eq!(presigned(vector), None, "{bucket} {endpoint}");
        }
    }
}
