//! Whether variables and arguments fit their types, before anything is executed (sections 5.6, 5.8.5 and 6.1.2 of the specification). The library looks at some of
//! this while it executes, when the first fields of a mutation are done already, and holds a text for a word where it stands in a query.

use std::sync::LazyLock;

use async_graphql::parser::types::{
    BaseType, Field, OperationDefinition, OperationType, Selection, Type, VariableDefinition,
};
use async_graphql::registry::{MetaInputValue, MetaType, Registry};
use async_graphql::{Name, Positioned, ServerError, Value as ConstValue, Variables};
use async_graphql_value::Value;

use crate::refusal::{code, error};
use crate::schema;

static TYPES: LazyLock<Registry> = LazyLock::new(schema::types);

/// Holds variables against their definitions, and these against themselves.
///
/// # Errors
/// A variable that may not be null is or was not given, a value does not fit its type, or a default does not.
pub fn check(operation: &OperationDefinition, given: &Variables) -> Result<(), ServerError> {
    for definition in &operation.variable_definitions {
        let VariableDefinition {
            name,
            var_type,
            default_value,
            ..
        } = &definition.node;
        let (name, kind) = (&name.node, &var_type.node);
        let refused = |code, why: String| {
            let why = format!("variables: \"${name}\" of the type \"{kind}\" {why}");
            Err(error(code, why, Some(definition.pos)))
        };
        if let Some(default) = default_value
            && let Err(misfit) = Values::LITERAL.fit(kind, &default.node.clone().into_value())
        {
            return refused(code::BAD_USER_INPUT, format!("has a default that {misfit}"));
        }
        let misfit = match (given.get(name), default_value) {
            (None, None) if !kind.nullable => "is required, but was not given".to_owned(),
            (Some(ConstValue::Null), _) if !kind.nullable => "must not be null".to_owned(),
            (Some(value), _) => match Values::GIVEN.fit(kind, &value.clone().into_value()) {
                Err(misfit) => misfit.0,
                Ok(()) => continue,
            },
            _ => continue,
        };
        return refused(code::BAD_USER_INPUT, misfit);
    }
    Ok(())
}

/// Holds the arguments at the root of an operation against their types: other fields of this schema have none, but those of introspection.
///
/// # Errors
/// An argument that does not fit.
pub fn check_arguments(
    operation: &OperationDefinition,
    given: &Variables,
) -> Result<(), ServerError> {
    let root = match operation.ty {
        OperationType::Query => "Query",
        OperationType::Mutation => "Mutation",
        OperationType::Subscription => "Subscription",
    };
    let values = Values {
        is_literal: true,
        definitions: &operation.variable_definitions,
        given: Some(given),
    };
    for selection in &operation.selection_set.node.items {
        if let Selection::Field(field) = &selection.node {
            values.fit_arguments(root, &field.node)?;
        }
    }
    Ok(())
}

/// What stands for a value in an operation: itself, or what its variable was given or has as its default.
pub fn resolved(
    value: &Value,
    definitions: &[Positioned<VariableDefinition>],
    given: &Variables,
) -> ConstValue {
    let of_variable = |name: Name| {
        let default = || {
            let definition = definition(definitions, &name)?;
            definition.default_value.as_ref().map(|it| it.node.clone())
        };
        let value = given.get(&name).cloned().or_else(default);
        Ok::<_, std::convert::Infallible>(value.unwrap_or_default())
    };
    match value.clone().into_const_with(of_variable) {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

fn definition<'a>(
    definitions: &'a [Positioned<VariableDefinition>],
    name: &Name,
) -> Option<&'a VariableDefinition> {
    let mut definitions = definitions.iter().map(|definition| &definition.node);
    definitions.find(|definition| definition.name.node == *name)
}

/// Why a value does not fit: what to say behind its name.
struct Misfit(String);

impl Misfit {
    fn is_no(kind: &str) -> Self {
        Self(format!("is not of the type \"{kind}\""))
    }

    /// Of something within a value.
    fn within(self, part: &str) -> Self {
        Self(format!("does not fit: {part} {}", self.0))
    }
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where values come from, which decides how they are read.
struct Values<'a> {
    /// Whether they stand in the query, where words are no texts.
    is_literal: bool,
    definitions: &'a [Positioned<VariableDefinition>],
    /// None where no variable may stand.
    given: Option<&'a Variables>,
}

impl Values<'static> {
    const LITERAL: Self = Self {
        is_literal: true,
        definitions: &[],
        given: None,
    };
    const GIVEN: Self = Self {
        is_literal: false,
        definitions: &[],
        given: None,
    };
}

impl Values<'_> {
    fn fit_arguments(&self, root: &str, field: &Field) -> Result<(), ServerError> {
        let root = TYPES.types.get(root);
        // What is not in the schema is introspection.
        let Some(known) = root.and_then(|root| root.field_by_name(&field.name.node)) else {
            return Ok(());
        };
        for argument in known.args.values() {
            let found = field.get_argument(&argument.name);
            let fit = self.fit_input(argument, found.map(|value| &value.node));
            if let Err(misfit) = fit {
                let (field, name) = (&field.name, &argument.name);
                let place = found.map_or(field.pos, |value| value.pos);
                let why = format!("the argument \"{name}\" of \"{}\" {misfit}", field.node);
                return Err(error(code::BAD_USER_INPUT, why, Some(place)));
            }
        }
        Ok(())
    }

    /// An argument, or a field of an input object.
    fn fit_input(&self, input: &MetaInputValue, value: Option<&Value>) -> Result<(), Misfit> {
        let kind = Type::new(&input.ty).ok_or_else(|| Misfit::is_no(&input.ty))?;
        match value {
            Some(value) => self.fit(&kind, value),
            None if kind.nullable || input.default_value.is_some() => Ok(()),
            None => Err(Misfit("is required, but was not given".to_owned())),
        }
    }

    fn fit(&self, kind: &Type, value: &Value) -> Result<(), Misfit> {
        match (value, &kind.base) {
            (Value::Variable(name), _) => self.fit_variable(kind, name),
            (Value::Null, _) if kind.nullable => Ok(()),
            (Value::Null, _) => Err(Misfit("must not be null".to_owned())),
            (Value::List(items), BaseType::List(kind)) => {
                items.iter().enumerate().try_for_each(|(place, item)| {
                    let fit = self.fit(kind, item);
                    fit.map_err(|misfit| misfit.within(&format!("item {place}")))
                })
            }
            // One item stands for a list of it.
            (item, BaseType::List(kind)) => self.fit(kind, item),
            (value, BaseType::Named(name)) => self.fit_named(name, value),
        }
    }

    fn fit_named(&self, kind: &Name, value: &Value) -> Result<(), Misfit> {
        let is_fit = match (TYPES.types.get(kind.as_str()), value) {
            (Some(MetaType::InputObject { input_fields, .. }), Value::Object(fields)) => {
                let known = |name: &&Name| input_fields.contains_key(name.as_str());
                if let Some(unknown) = fields.keys().find(|name| !known(name)) {
                    let why = "is no field of that type".to_owned();
                    return Err(Misfit(why).within(&format!("\"{unknown}\"")));
                }
                return input_fields.values().try_for_each(|input| {
                    let fit = self.fit_input(input, fields.get(input.name.as_str()));
                    fit.map_err(|misfit| misfit.within(&format!("\"{}\"", input.name)))
                });
            }
            (Some(MetaType::Enum { enum_values, .. }), Value::Enum(word)) => {
                self.is_literal && enum_values.contains_key(word.as_str())
            }
            (Some(MetaType::Enum { enum_values, .. }), Value::String(word)) => {
                !self.is_literal && enum_values.contains_key(word)
            }
            (Some(MetaType::Scalar { is_valid, .. }), value) => match kind.as_str() {
                "Int" => {
                    matches!(value, Value::Number(number) if number.as_i64().is_some_and(|it| i32::try_from(it).is_ok()))
                }
                _ => {
                    let none = Variables::default();
                    let given = self.given.unwrap_or(&none);
                    let value = resolved(value, self.definitions, given);
                    is_valid.as_ref().is_none_or(|is_valid| is_valid(&value))
                }
            },
            // A type that no argument has, for a variable that then fits nowhere.
            (None, _) => true,
            _ => false,
        };
        match is_fit {
            true => Ok(()),
            false => Err(Misfit::is_no(kind)),
        }
    }

    /// A variable's value fits the variable's type, so it is enough that this fits the place.
    fn fit_variable(&self, kind: &Type, name: &Name) -> Result<(), Misfit> {
        let Some(definition) = definition(self.definitions, name) else {
            return Err(Misfit(format!(
                "is a variable \"${name}\" that there is not"
            )));
        };
        let declared = &definition.var_type.node;
        let has_default = definition
            .default_value
            .as_ref()
            .is_some_and(|value| value.node != ConstValue::Null);
        let allowed = Type {
            nullable: kind.nullable || has_default,
            base: kind.base.clone(),
        };
        if !is_within(declared, &allowed) {
            let why = format!("is \"${name}\" of the type \"{declared}\", which is not \"{kind}\"");
            return Err(Misfit(why));
        }
        let value = self.given.and_then(|given| given.get(name));
        match (kind.nullable, value) {
            (false, Some(ConstValue::Null)) => {
                Err(Misfit(format!("must not be null, as \"${name}\" is")))
            }
            _ => Ok(()),
        }
    }
}

/// Whether all values of a type are values of the other one.
fn is_within(one: &Type, other: &Type) -> bool {
    (other.nullable || !one.nullable)
        && match (&one.base, &other.base) {
            (BaseType::List(one), BaseType::List(other)) => is_within(one, other),
            (BaseType::Named(one), BaseType::Named(other)) => one == other,
            _ => false,
        }
}
