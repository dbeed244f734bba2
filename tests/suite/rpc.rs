//! `POST /rpc/:function`: that it is PostgREST to its clients. The bodies, statuses and headers that are expected here are those of
//! PostgREST 14 (its pages on functions, errors, preferences and schemas), written out; where this differs, the test says so.

mod answers;
mod arguments;
mod callers;
mod reach;
mod refusals;

use millrace_tests::api::Answer;
use millrace_tests::app::App;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// Functions of every shape, reachable under the default profile.
const SHAPES: &str = r#"
create schema shapes;
create type shapes.pair as (a int, "B c" text);
create table shapes.written (n int);
create sequence shapes.called;
create function shapes.sum(a int, b int default 2) returns int language sql as 'select a + b';
create function shapes.nothing() returns void language sql as 'insert into shapes.written values (0)';
create function shapes.unknown() returns text language sql as 'select null::text';
create function shapes.pair(a int, "Arg ""1" text default 'x') returns shapes.pair language sql as 'select row(a, $2)::shapes.pair';
create function shapes.pairs(n int) returns setof shapes.pair language sql as 'select g, ''x''::text from generate_series(1, n) as g';
create function shapes.numbers(n int) returns setof int language sql as 'select generate_series(1, n)';
create function shapes.at(n int) returns table (id bigint, at timestamptz) language sql
  as 'select g, timestamptz ''2026-01-02 03:04:05+00'' from generate_series(1, n) as g';
create function shapes.echo(jsonb) returns jsonb language sql as 'select $1';
create function shapes.types(t text default null, i bigint default null, b boolean default null, u uuid default null, n numeric default null,
  at timestamptz default null, j jsonb default null, l text[] default null) returns jsonb language sql
  as 'select jsonb_strip_nulls(jsonb_build_object(''t'', t, ''i'', i, ''b'', b, ''u'', u, ''n'', n, ''at'', at, ''j'', j, ''l'', l))';
create function shapes.raises(code text, message text default 'the message', detail text default 'the detail', hint text default 'the hint') returns int
  language plpgsql as 'begin raise exception using errcode = code, message = message, detail = detail, hint = hint; end';
create function shapes.writes(n int) returns setof int language plpgsql security definer as $$
begin
  perform nextval('shapes.called');
  return query insert into shapes.written select generate_series(1, n) returning written.n;
end $$;
create function shapes.hidden() returns int language sql as 'select 1';
create function shapes.sum(a text) returns text language sql as 'select a';
alter function shapes.nothing security definer;
insert into millrace.rpc_function (profile, schema_name, function_name, argument_types, scope)
select 'public', 'shapes', p.proname, oidvectortypes(p.proargtypes), 'work' from pg_proc p
 where p.pronamespace = 'shapes'::regnamespace and p.proname <> 'hidden' and oidvectortypes(p.proargtypes) <> 'text';
grant usage on schema shapes to millrace_functions;
"#;

/// An application whose database has [`SHAPES`].
async fn shapes() -> App {
    let app = App::start().await;
    app.database.run(SHAPES).await;
    app
}

/// A call with the application's key.
fn call(app: &App, function: &str, arguments: &Value) -> RequestBuilder {
    let request = app.api.request(Method::POST, &format!("/rpc/{function}"));
    request.json(arguments)
}

/// What comes of one.
async fn answer(app: &App, function: &str, arguments: &Value) -> Answer {
    app.api.send(call(app, function, arguments)).await
}

/// Fails unless the answer is PostgREST's refusal of this status, with exactly this body and the headers that go with it.
fn assert_refused(answer: &Answer, status: u16, body: &Value) {
    assert_eq!((answer.status, &answer.json()), (status, body));
    assert_eq!(
        answer.header("content-type"),
        "application/json; charset=utf-8"
    );
    assert_eq!(
        answer.header("content-length"),
        answer.text.len().to_string()
    );
    let code = body["code"].as_str().expect("a code");
    assert_eq!(
        answer.header("proxy-status"),
        format!("PostgREST; error={code}")
    );
    assert_eq!(answer.header("cache-control"), "no-store");
    let challenge = if status == 401 { "Bearer" } else { "" };
    assert_eq!(answer.header("www-authenticate"), challenge);
}

/// A refusal's body.
fn refusal(code: &str, message: &str, details: Value, hint: Value) -> Value {
    json!({ "code": code, "message": message, "details": details, "hint": hint })
}
