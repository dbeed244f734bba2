// The schema as the server tells it: a list to browse, and a draft of an operation for each field of a root type.

const TYPE = "kind name ofType { kind name ofType { kind name ofType { kind name } } }";
const VALUE = `name description defaultValue type { ${TYPE} }`;

/** What is asked of the server: an introspection query, no deeper than this page needs. */
export const INTROSPECTION = `query Schema {
  __schema {
    queryType { name }
    mutationType { name }
    subscriptionType { name }
    types {
      kind name description
      fields { name description args { ${VALUE} } type { ${TYPE} } }
      inputFields { ${VALUE} }
      enumValues { name description }
    }
  }
}`;

/** How a type is written: `[Job!]!`. */
function written(type) {
  if (type.kind === "NON_NULL") return `${written(type.ofType)}!`;
  return type.kind === "LIST" ? `[${written(type.ofType)}]` : type.name;
}

/** The name of the type that lists and "not null" are about. */
function named(type) {
  return type.ofType ? named(type.ofType) : type.name;
}

const isRequired = ({ type, defaultValue }) => type.kind === "NON_NULL" && defaultValue === null;

/** A schema that was told, by the names of its types. */
export class Schema {
  constructor({ queryType, mutationType, subscriptionType, types }) {
    this.types = new Map(types.map((type) => [type.name, type]));
    this.roots = [
      ["query", queryType],
      ["mutation", mutationType],
      ["subscription", subscriptionType],
    ].filter(([, type]) => type);
  }

  /** An operation that asks `field` for all that it has, with its required arguments as variables. */
  draft(kind, field) {
    const required = field.args.filter(isRequired);
    const list = (items) => (items.length > 0 ? `(${items.join(", ")})` : "");
    const declared = list(required.map(({ name, type }) => `$${name}: ${written(type)}`));
    const given = list(required.map(({ name }) => `${name}: $${name}`));
    const operation = field.name[0].toUpperCase() + field.name.slice(1);
    const query = `${kind} ${operation}${declared} {\n  ${field.name}${given}${this.#selection(field.type, "  ", [])}\n}\n`;
    return { query, variables: this.#examples(required) };
  }

  #selection(type, indent, above) {
    const { fields, name } = this.types.get(named(type));
    if (!fields) return "";
    const lines = fields
      .filter((field) => !field.args.some(isRequired) && ![...above, name].includes(named(field.type)))
      .map((field) => `${indent}  ${field.name}${this.#selection(field.type, `${indent}  `, [...above, name])}\n`);
    return ` {\n${lines.join("")}${indent}}`;
  }

  #examples(values) {
    return Object.fromEntries(values.map(({ name, type }) => [name, this.#example(type)]));
  }

  #example(type) {
    if (type.kind === "NON_NULL") return this.#example(type.ofType);
    if (type.kind === "LIST") return [];
    if (type.kind === "ENUM") return this.types.get(type.name).enumValues[0].name;
    if (type.kind === "INPUT_OBJECT") return this.#examples(this.types.get(type.name).inputFields.filter(isRequired));
    return { Int: 0, Float: 0, Boolean: false, ID: "", String: "" }[type.name] ?? {};
  }
}

/** An element with children. Texts of the schema only ever become text nodes. */
function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Shows `schema` in `place`, beginning with what it can be asked; `insert` is given the draft of a field that was chosen. */
export function browse(schema, place, insert) {
  const link = (text, onclick) => element("button", { type: "button", className: "link", onclick }, text);
  const described = ({ description }) => (description ? [element("p", { className: "description" }, description)] : []);
  const typed = (type) => link(written(type), () => show(named(type)));
  const value = (one) => ["", one.name, ": ", typed(one.type), one.defaultValue === null ? "" : ` = ${one.defaultValue}`];
  const listed = (args) => args.flatMap((one, n) => [n > 0 ? ", " : "", ...value(one)]);
  const signature = ({ name, args, type }, title) =>
    element("code", {}, title ?? name, ...(args.length > 0 ? ["(", ...listed(args), ")"] : []), ": ", typed(type));

  /** A heading and the items of a list; each item is an array of nodes. */
  const part = (title, about, items) => [
    element("h3", {}, title),
    ...described(about),
    element("ul", {}, ...items.map((nodes) => element("li", {}, ...nodes))),
  ];
  function root([kind, { name }]) {
    const type = schema.types.get(name);
    const items = type.fields.map((field) => {
      const title = link(field.name, () => insert(schema.draft(kind, field)));
      title.title = "Put it into the editor";
      return [signature(field, title), ...described(field)];
    });
    return part(name, type, items);
  }
  function show(name) {
    const type = schema.types.get(name);
    const items = [
      ...(type.fields ?? []).map((field) => [signature(field), ...described(field)]),
      ...(type.inputFields ?? []).map((one) => [element("code", {}, ...value(one)), ...described(one)]),
      ...(type.enumValues ?? []).map((one) => [element("code", {}, one.name), ...described(one)]),
    ];
    place.replaceChildren(link("All operations", start), ...part(name, type, items));
  }
  function start() {
    place.replaceChildren(...schema.roots.flatMap(root));
  }
  start();
}
