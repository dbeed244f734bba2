//! Which variables an operation must be given (section 6.1.2 of the specification). Whether a value fits its type is known where it is used: the
//! schema's validation looks at arguments with the variables in their places.

use async_graphql::parser::types::OperationDefinition;
use async_graphql::{ServerError, Value, Variables};

use crate::refusal::{code, error};

/// # Errors
/// A variable that may not be null is, or was not given.
pub fn check(operation: &OperationDefinition, given: &Variables) -> Result<(), ServerError> {
    for definition in &operation.variable_definitions {
        let name = &definition.node.name.node;
        let kind = &definition.node.var_type.node;
        let why = match (given.get(name), &definition.node.default_value) {
            (None, None) if !kind.nullable => "is required, but was not given",
            (Some(Value::Null), _) if !kind.nullable => "must not be null",
            _ => continue,
        };
        let why = format!("variables: \"${name}\" of the type \"{kind}\" {why}");
        return Err(error(code::BAD_USER_INPUT, why, Some(definition.pos)));
    }
    Ok(())
}
