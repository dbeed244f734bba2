//! Variables that are set wrongly: the channel names the one, says nothing of its value, and claims no job meanwhile.

use millrace_tests::app::App;
use reqwest::Method;

/// The variables, and the one of them that is wrong.
type Case = (&'static [(&'static str, &'static str)], &'static str);

const EMAIL: &[Case] = &[
    (&[("email_provider", "resent")], "email_provider"),
    (&[("email_provider", "Resend")], "email_provider"),
    (&[("email_provider", "resend")], "email_host"),
    (
        &[
            ("email_provider", "resend"),
            ("email_host", "https://api.resend.com"),
        ],
        "resend_api_key",
    ),
    (
        &[
            ("email_provider", "resend"),
            ("email_host", "https://api.resend.com"),
            ("resend_api_key", "hidden\r\nx: y"),
        ],
        "resend_api_key",
    ),
    (
        &[
            ("email_provider", "resend"),
            ("email_host", "https://api.resend.com"),
            ("resend_api_key", "hidden key"),
        ],
        "resend_api_key",
    ),
    (
        &[
            ("email_provider", "resend"),
            ("email_host", "https://api.postmarkapp.com"),
            ("resend_api_key", "hidden"),
        ],
        "email_host",
    ),
    (
        &[
            ("email_provider", "resend"),
            ("email_url", "http://hidden.example.com"),
            ("email_host", "http://hidden.example.com"),
        ],
        "email_url",
    ),
    (
        &[
            ("email_provider", "resend"),
            ("email_url", "https://u:hidden@example.com"),
            ("email_host", "https://example.com"),
        ],
        "email_url",
    ),
    (
        &[("email_provider", "resend"), ("email_url", "hidden")],
        "email_url",
    ),
    (
        &[
            ("email_provider", "resend"),
            ("email_host", "https://api.resend.com"),
            ("resend_api_key", "hidden"),
            ("email_ambiguous", "perhaps"),
        ],
        "email_ambiguous",
    ),
    (
        &[
            ("email_provider", "postmark"),
            ("email_host", "https://api.postmarkapp.com"),
        ],
        "postmark_server_token",
    ),
    (
        &[
            ("email_provider", "sendgrid"),
            ("email_host", "https://api.sendgrid.com"),
        ],
        "sendgrid_api_key",
    ),
    (
        &[
            ("email_provider", "mailgun"),
            ("email_host", "https://api.mailgun.net"),
            ("mailgun_api_key", "hidden"),
        ],
        "mailgun_domain",
    ),
    (
        &[
            ("email_provider", "mailgun"),
            ("email_host", "https://api.mailgun.net"),
            ("mailgun_api_key", "hidden"),
            ("mailgun_domain", "../hidden"),
        ],
        "mailgun_domain",
    ),
    (
        &[
            ("email_provider", "mailgun"),
            ("email_host", "https://api.mailgun.net"),
            ("mailgun_domain", "mg.example.com"),
        ],
        "mailgun_api_key",
    ),
    (&[("email_provider", "ses")], "aws_region"),
    (
        &[
            ("email_provider", "ses"),
            ("aws_region", "hidden.example.com/"),
        ],
        "aws_region",
    ),
    (
        &[
            ("email_provider", "ses"),
            ("aws_region", "eu-central-1"),
            ("email_host", "https://email.us-east-1.amazonaws.com"),
        ],
        "email_host",
    ),
    (
        &[
            ("email_provider", "ses"),
            ("aws_region", "eu-central-1"),
            ("email_host", "https://email.eu-central-1.amazonaws.com"),
        ],
        "aws_access_key_id",
    ),
    (
        &[
            ("email_provider", "ses"),
            ("aws_region", "eu-central-1"),
            ("email_host", "https://email.eu-central-1.amazonaws.com"),
            ("aws_access_key_id", "hidden"),
        ],
        "aws_secret_access_key",
    ),
];

const TWILIO: (&str, &str) = ("twilio_account_sid", "AC0123456789abcdef0123456789abcdef");

const SMS: &[Case] = &[
    (&[("sms_provider", "pigeon")], "sms_provider"),
    (&[("sms_provider", "twilio")], "twilio_account_sid"),
    (
        &[
            ("sms_provider", "twilio"),
            ("twilio_account_sid", "AC/../hidden"),
        ],
        "twilio_account_sid",
    ),
    (&[("sms_provider", "twilio"), TWILIO], "sms_host"),
    (
        &[
            ("sms_provider", "twilio"),
            TWILIO,
            ("sms_host", "https://api.twilio.com"),
        ],
        "twilio_auth_token",
    ),
    (
        &[
            ("sms_provider", "twilio"),
            TWILIO,
            ("sms_host", "https://api.twilio.com"),
            ("twilio_auth_token", "hidden"),
        ],
        "sms_from",
    ),
    (
        &[
            ("sms_provider", "twilio"),
            TWILIO,
            ("sms_host", "https://api.twilio.com"),
            ("twilio_auth_token", "hidden"),
            ("sms_from", "hidden & To=+1555"),
        ],
        "sms_from",
    ),
    (
        &[
            ("sms_provider", "vonage"),
            ("sms_host", "https://rest.nexmo.com"),
        ],
        "vonage_api_key",
    ),
    (
        &[
            ("sms_provider", "vonage"),
            ("sms_host", "https://rest.nexmo.com"),
            ("vonage_api_key", "hidden"),
        ],
        "vonage_api_secret",
    ),
    (
        &[
            ("sms_provider", "vonage"),
            ("sms_host", "https://rest.nexmo.com"),
            ("vonage_api_key", "hidden"),
            ("vonage_api_secret", "hidden"),
            ("sms_from", "MG00000000000000000000000000000000"),
        ],
        "sms_from",
    ),
    (
        &[
            ("sms_provider", "messagebird"),
            ("sms_host", "https://rest.messagebird.com"),
            ("sms_from", "Shop"),
        ],
        "messagebird_access_key",
    ),
];

async fn each_is_named(channel: &str, cases: &[Case]) {
    let path = format!("/channels/{channel}");
    for (variables, wrong) in cases {
        let app = App::start_with(variables).await;
        let sql = "select comms.create_and_enqueue_email('f@example.com', 't@example.com', 's', 'h'), comms.create_and_enqueue_sms('+4915112345678', 'b')";
        app.database.run(sql).await;
        for method in [Method::GET, Method::POST] {
            let answer = app.api.send(app.api.request(method, &path)).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (500, "misconfigured"),
                "{variables:?}"
            );
            let body = answer.json();
            let details = body["details"].as_str().expect("details");
            assert!(
                details.starts_with(&format!("{wrong}: ")),
                "{variables:?}: {details}"
            );
            assert!(!details.contains("hidden"), "{details}");
        }
        let ready: i64 = app
            .database
            .one("select count(*) from millrace.ready", &[])
            .await
            .get(0);
        assert_eq!(ready, 2, "nothing was claimed");
    }
    println!(
        "deliveries: {channel}: {} wrong configurations",
        cases.len()
    );
}

#[tokio::test]
async fn a_wrong_variable_of_email_is_named() {
    each_is_named("email", EMAIL).await;
}

#[tokio::test]
async fn a_wrong_variable_of_sms_is_named() {
    each_is_named("sms", SMS).await;
}

#[tokio::test]
async fn a_right_configuration_names_the_provider() {
    let app = App::start_with(&[
        ("email_provider", "ses"),
        ("aws_region", "eu-central-1"),
        ("email_host", "https://email.eu-central-1.amazonaws.com:443"),
        ("aws_access_key_id", "id"),
        ("aws_secret_access_key", "secret"),
    ])
    .await;
    let email = app.api.get("/channels/email").await.ok();
    assert_eq!(
        (&email["state"], &email["detail"]),
        (&"ready".into(), &"Amazon SES".into()),
        "{email}"
    );
    let sms = app.api.get("/channels/sms").await.ok();
    assert_eq!(
        (&sms["state"], &sms["detail"]),
        (&"ready".into(), &"preview".into()),
        "{sms}"
    );
}

#[tokio::test]
async fn a_channel_that_is_off_leaves_its_jobs_to_others() {
    let app = App::start_with(&[("email_provider", "off"), ("sms_provider", "off")]).await;
    let sql = "select comms.create_and_enqueue_email('f@example.com', 't@example.com', 's', 'h'), comms.create_and_enqueue_sms('+4915112345678', 'b')";
    app.database.run(sql).await;
    for channel in ["email", "sms"] {
        let path = format!("/channels/{channel}");
        for method in [Method::GET, Method::POST] {
            let answer = app.api.send(app.api.request(method, &path)).await;
            let said = answer.ok();
            assert_eq!(said["state"], "idle", "{said}");
        }
    }
    let sql = "select count(*) from millrace.ready";
    let ready: i64 = app.database.one(sql, &[]).await.get(0);
    assert_eq!(ready, 2, "nothing was claimed");
}
