//! The one statement of a call. It is made of the catalogue's quoted identifiers and of numbered parameters, all of them texts.
//! Every function and operator has its schema: a database's owner may have anything of these names in `public`.

use crate::arguments::Given;
use crate::catalogue::{Function, Returns};
use crate::negotiation::Format;

/// A statement that answers one text: the number of rows of the result, a space, and the result as JSON.
pub struct Statement {
    pub text: String,
    pub parameters: Vec<String>,
}

/// The statement that calls `function` with these arguments, after checking a caller who showed a stored key (`admission`).
///
/// The call stands in the select list, so the scans of the inner query come before it: of the key's check, and of the arguments'
/// conversion by `json_to_record`, which is what PostgREST converts them with. The inner query is not merged into the outer
/// one, as Postgres does not move volatile functions about, so there is one call.
pub fn of(
    function: &Function,
    given: Given,
    format: Format,
    admission: Option<String>,
) -> Statement {
    let (arguments, columns, mut parameters) = match (given, &function.body) {
        (Given::Whole(json), Some(json_type)) => {
            (format!("$1::text::{json_type}"), None, vec![json])
        }
        (Given::Named(named, object), _) if !named.is_empty() => {
            let joined = |parts: Vec<&str>| parts.join(", ");
            let arguments = joined(named.iter().map(|it| it.argument.as_str()).collect());
            let columns = joined(named.iter().map(|it| it.column.as_str()).collect());
            (arguments, Some(columns), vec![object])
        }
        _ => (String::new(), None, Vec::new()),
    };
    let mut scans = Vec::new();
    if let Some(columns) = columns {
        scans.push(format!(
            "pg_catalog.json_to_record($1::text::json) as given ({columns})"
        ));
    }
    if let Some(admission) = admission {
        parameters.push(admission);
        let number = parameters.len();
        scans.push(format!("millrace_api.rpc_admit(${number}::text::jsonb)"));
    }
    let from = match scans.is_empty() {
        true => String::new(),
        false => format!(" from {}", scans.join(", ")),
    };
    let result = result(function.returns, format);
    let call = &function.call;
    Statement {
        text: format!(
            "select {result} from (select {call}({arguments}) as called{from}) as result"
        ),
        parameters,
    }
}

/// The number of rows and the result, of what is `called` in the query inside.
fn result(returns: Returns, format: Format) -> &'static str {
    match (returns, format) {
        (Returns::Void, _) => "pg_catalog.concat('1 ', called::text)",
        (Returns::One, _) => {
            "pg_catalog.concat('1 ', coalesce(pg_catalog.to_json(called)::text, 'null'))"
        }
        (Returns::Set, Format::Json) => {
            "pg_catalog.concat(pg_catalog.count(*), ' ', coalesce(pg_catalog.json_agg(called)::text, '[]'))"
        }
        // It raises unless there is exactly one, and then nothing has happened.
        (Returns::Set, Format::Object) => {
            "case when pg_catalog.count(*) operator(pg_catalog.=) 1 \
             then pg_catalog.concat('1 ', (pg_catalog.json_agg(called) operator(pg_catalog.->) 0)::text) \
             else millrace_api.rpc_single(pg_catalog.jsonb_build_object('rows', pg_catalog.count(*)))::text end"
        }
    }
}
