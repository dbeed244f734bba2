//! Amazon SES, version 2: <https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html>. Signatures are checked step by step as
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html> has them.

use hmac::{Hmac, Mac};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Documented, PLAIN, is_one_address, told};
use crate::provider::{Answer, Ledger, Seen, Service};

/// The credentials and the region that it knows.
pub const ACCESS_KEY_ID: &str = "AKIDEXAMPLE";
pub const SECRET_ACCESS_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub const SESSION_TOKEN: &str = "session-token/+=";
pub const REGION: &str = "eu-central-1";

/// The errors that sending can meet, by the page of the operation and by that of common errors.
pub const ANSWERS: &[Documented] = &[
    (
        "AccountSuspendedException",
        400,
        ("x-amzn-errortype", "AccountSuspendedException"),
        r#"{"message":"m"}"#,
    ),
    (
        "BadRequestException",
        400,
        (
            "x-amzn-errortype",
            "BadRequestException:http://internal.amazon.com/coral/",
        ),
        r#"{"message":"m"}"#,
    ),
    (
        "LimitExceededException",
        400,
        ("x-amzn-errortype", "LimitExceededException"),
        r#"{"message":"m"}"#,
    ),
    (
        "MailFromDomainNotVerifiedException",
        400,
        ("x-amzn-errortype", "MailFromDomainNotVerifiedException"),
        r#"{"message":"m"}"#,
    ),
    (
        "MessageRejected",
        400,
        ("x-amzn-errortype", "MessageRejected"),
        r#"{"message":"Email address is not verified."}"#,
    ),
    (
        "NotFoundException",
        404,
        ("x-amzn-errortype", "NotFoundException"),
        r#"{"message":"m"}"#,
    ),
    (
        "SendingPausedException",
        400,
        ("x-amzn-errortype", "SendingPausedException"),
        r#"{"message":"m"}"#,
    ),
    (
        "TooManyRequestsException",
        429,
        ("x-amzn-errortype", "TooManyRequestsException"),
        r#"{"message":"m"}"#,
    ),
    (
        "TooManyRequestsException in the body",
        429,
        PLAIN,
        r#"{"__type":"com.amazonaws.sesv2#TooManyRequestsException"}"#,
    ),
    (
        "ThrottlingException",
        400,
        ("x-amzn-errortype", "ThrottlingException"),
        r#"{"message":"m"}"#,
    ),
    (
        "AccessDeniedException",
        403,
        ("x-amzn-errortype", "AccessDeniedException"),
        r#"{"message":"m"}"#,
    ),
    (
        "ExpiredTokenException",
        403,
        ("x-amzn-errortype", "ExpiredTokenException"),
        r#"{"message":"m"}"#,
    ),
    (
        "IncompleteSignature",
        400,
        ("x-amzn-errortype", "IncompleteSignature"),
        r#"{"message":"m"}"#,
    ),
    (
        "InvalidClientTokenId",
        403,
        ("x-amzn-errortype", "InvalidClientTokenId"),
        r#"{"message":"m"}"#,
    ),
    (
        "InvalidSignatureException",
        403,
        ("x-amzn-errortype", "InvalidSignatureException"),
        r#"{"message":"m"}"#,
    ),
    (
        "OptInRequired",
        403,
        ("x-amzn-errortype", "OptInRequired"),
        r#"{"message":"m"}"#,
    ),
    (
        "RequestExpired",
        400,
        ("x-amzn-errortype", "RequestExpired"),
        r#"{"message":"m"}"#,
    ),
    (
        "UnrecognizedClientException",
        403,
        ("x-amzn-errortype", "UnrecognizedClientException"),
        r#"{"message":"m"}"#,
    ),
    (
        "ValidationException",
        400,
        ("x-amzn-errortype", "ValidationException"),
        r#"{"message":"m"}"#,
    ),
    (
        "InternalFailure",
        500,
        ("x-amzn-errortype", "InternalFailure"),
        r#"{"message":"m"}"#,
    ),
    (
        "ServiceUnavailable",
        503,
        ("x-amzn-errortype", "ServiceUnavailable"),
        r#"{"message":"m"}"#,
    ),
];

#[derive(Default)]
pub struct Ses;

impl Service for Ses {
    fn answer(&mut self, request: &Seen, ledger: &mut Ledger) -> Answer {
        let body = request.json();
        let text = |pointer: &str| {
            body.pointer(pointer)
                .and_then(|it| it.as_str())
                .unwrap_or_default()
        };
        let (to, from) = (
            text("/Destination/ToAddresses/0"),
            text("/FromEmailAddress"),
        );
        match () {
            () if request.path() != "/v2/email/outbound-emails" || request.method != "POST" => {
                return told(ANSWERS, "NotFoundException");
            }
            () if !is_signed(request) => return told(ANSWERS, "InvalidSignatureException"),
            // Addresses are in ASCII, names in other letters encoded.
            () if !is_one_address(to) || !is_one_address(from) || !from.is_ascii() => {
                return told(ANSWERS, "BadRequestException");
            }
            () if text("/Content/Simple/Subject/Data").is_empty()
                || text("/Content/Simple/Body/Html/Data").is_empty() =>
            {
                return told(ANSWERS, "BadRequestException");
            }
            () => (),
        }
        ledger.act(text("/EmailTags/0/Value"), to);
        Answer::json(
            200,
            &json!({ "MessageId": format!("ses-{}", ledger.acts()) }),
        )
    }

    fn error(&mut self, status: u16) -> Answer {
        Answer::json(status, &json!({ "message": "explained" }))
            .with("x-amzn-errortype", "InternalFailure")
    }

    fn told(&mut self, what: &str, _: &Seen, _: &mut Ledger) -> Answer {
        told(ANSWERS, what)
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the signature is that of these credentials for this request.
fn is_signed(request: &Seen) -> bool {
    let date = request.header("x-amz-date");
    let Some(day) = date.get(..8) else {
        return false;
    };
    let scope = format!("{day}/{REGION}/ses/aws4_request");
    let authorization = request.header("authorization");
    let Some((_, rest)) = authorization.split_once("SignedHeaders=") else {
        return false;
    };
    let (names, signature) = rest.split_once(", Signature=").unwrap_or_default();
    if !["content-type", "host", "x-amz-date"]
        .iter()
        .all(|it| names.split(';').any(|name| name == *it))
    {
        return false;
    }
    let headers: String = names
        .split(';')
        .map(|name| format!("{name}:{}\n", request.header(name).trim()))
        .collect();
    let body = hex(&Sha256::digest(request.body.as_bytes()));
    let canonical = format!("POST\n{}\n\n{headers}\n{names}\n{body}", request.path());
    let canonical = hex(&Sha256::digest(canonical.as_bytes()));
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{canonical}");
    let key = [day, REGION, "ses", "aws4_request"].iter().fold(
        format!("AWS4{SECRET_ACCESS_KEY}").into_bytes(),
        |key, part| hmac(&key, part),
    );
    authorization.starts_with(&format!(
        "AWS4-HMAC-SHA256 Credential={ACCESS_KEY_ID}/{scope}, "
    )) && signature == hex(&hmac(&key, &text))
}
