//! The providers, as the tests set them up.

use millrace_tests::provider::Service;
use millrace_tests::providers::{
    Documented, mailgun, messagebird, postmark, resend, sendgrid, ses, twilio, vonage,
};

/// A provider and the application's side of it.
pub trait Known: Service + Default {
    const CHANNEL: &'static str;
    /// As the variable has it.
    const NAME: &'static str;
    /// What else the channel is configured with.
    const VARIABLES: &'static [(&'static str, &'static str)];
    const ANSWERS: &'static [Documented];
    /// Whether it sends once under one key.
    const IS_IDEMPOTENT: bool = false;
    /// Whether a request says which job it is of.
    const NAMES_JOBS: bool = true;
}

impl Known for resend::Resend {
    const CHANNEL: &'static str = "email";
    const NAME: &'static str = "resend";
    const VARIABLES: &'static [(&'static str, &'static str)] =
        &[("resend_api_key", resend::API_KEY)];
    const ANSWERS: &'static [Documented] = resend::ANSWERS;
    const IS_IDEMPOTENT: bool = true;
}

impl Known for postmark::Postmark {
    const CHANNEL: &'static str = "email";
    const NAME: &'static str = "postmark";
    const VARIABLES: &'static [(&'static str, &'static str)] = &[
        ("postmark_server_token", postmark::TOKEN),
        ("postmark_message_stream", "outbound"),
    ];
    const ANSWERS: &'static [Documented] = postmark::ANSWERS;
}

impl Known for sendgrid::SendGrid {
    const CHANNEL: &'static str = "email";
    const NAME: &'static str = "sendgrid";
    const VARIABLES: &'static [(&'static str, &'static str)] =
        &[("sendgrid_api_key", sendgrid::API_KEY)];
    const ANSWERS: &'static [Documented] = sendgrid::ANSWERS;
}

impl Known for mailgun::Mailgun {
    const CHANNEL: &'static str = "email";
    const NAME: &'static str = "mailgun";
    const VARIABLES: &'static [(&'static str, &'static str)] = &[
        ("mailgun_api_key", mailgun::API_KEY),
        ("mailgun_domain", mailgun::DOMAIN),
    ];
    const ANSWERS: &'static [Documented] = mailgun::ANSWERS;
}

impl Known for ses::Ses {
    const CHANNEL: &'static str = "email";
    const NAME: &'static str = "ses";
    const VARIABLES: &'static [(&'static str, &'static str)] = &[
        ("aws_region", ses::REGION),
        ("aws_access_key_id", ses::ACCESS_KEY_ID),
        ("aws_secret_access_key", ses::SECRET_ACCESS_KEY),
        ("aws_session_token", ses::SESSION_TOKEN),
    ];
    const ANSWERS: &'static [Documented] = ses::ANSWERS;
}

impl Known for twilio::Twilio {
    const CHANNEL: &'static str = "sms";
    const NAME: &'static str = "twilio";
    const VARIABLES: &'static [(&'static str, &'static str)] = &[
        ("twilio_account_sid", twilio::ACCOUNT_SID),
        ("twilio_auth_token", twilio::AUTH_TOKEN),
        ("sms_from", "+15550100000"),
    ];
    const ANSWERS: &'static [Documented] = twilio::ANSWERS;
    const NAMES_JOBS: bool = false;
}

impl Known for vonage::Vonage {
    const CHANNEL: &'static str = "sms";
    const NAME: &'static str = "vonage";
    const VARIABLES: &'static [(&'static str, &'static str)] = &[
        ("vonage_api_key", vonage::API_KEY),
        ("vonage_api_secret", vonage::API_SECRET),
        ("sms_from", "Millrace"),
    ];
    const ANSWERS: &'static [Documented] = vonage::ANSWERS;
}

impl Known for messagebird::MessageBird {
    const CHANNEL: &'static str = "sms";
    const NAME: &'static str = "messagebird";
    const VARIABLES: &'static [(&'static str, &'static str)] = &[
        ("messagebird_access_key", messagebird::ACCESS_KEY),
        ("sms_from", "+15550100000"),
    ];
    const ANSWERS: &'static [Documented] = messagebird::ANSWERS;
}
