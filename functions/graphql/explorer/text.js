// What the page has to know of two languages: where the operations of a GraphQL document are, and how JSON is laid out.

/** A token of GraphQL as far as it matters here: a comment, a block string, a string, a brace or bracket, a name, also of a variable or directive. */
const TOKEN = /#[^\n\r]*|"""(?:\\"""|[^])*?(?:"""|$)|"(?:\\.|[^"\\\n\r])*"?|[{}()[\]]|[$@]?[_A-Za-z]\w*/g;

/**
 * The operations of a document: `kind`, `name` (undefined if it has none), and from where to where in `text` each reaches.
 * A document that is wrong has those found up to there: the server says what is wrong with it.
 */
export function operations(text) {
  const found = [];
  let depth = 0;
  let current;
  for (const { 0: token, index } of text.matchAll(TOKEN)) {
    if (token[0] === "#" || token[0] === '"') continue;
    if ("{([".includes(token)) {
      if (depth === 0 && current === undefined) current = { kind: "query", from: index };
      depth += 1;
    } else if ("})]".includes(token)) {
      depth -= 1;
      if (depth === 0 && token === "}") {
        if (current.kind !== "fragment") found.push({ ...current, to: index + 1 });
        current = undefined;
      }
    } else if (depth === 0 && current === undefined) {
      current = { kind: token, from: index };
    } else if (depth === 0 && current.name === undefined && token[0] !== "@") {
      current.name = token;
    }
    if (depth < 0) break;
  }
  return found;
}

/** The operation at `place` in the text, or the last one before it, or the first. */
export function operationAt(text, place) {
  const all = operations(text);
  return all.findLast(({ from }) => from <= place) ?? all[0];
}

/** JSON text with a line for each value. Its numbers keep their digits, which JSON.parse would take from long ones. */
export function laidOut(json) {
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  const tokens = json.matchAll(/"(?:\\.|[^"\\])*"|([{[])\s*([}\]])|[{}[\],:]|[^\s{}[\],:"]+/g);
  return Array.from(tokens, ([token, opening, closing]) => {
    if (opening) return opening + closing;
    if (token === "{" || token === "[") {
      depth += 1;
      return token + line();
    }
    if (token === "}" || token === "]") {
      depth -= 1;
      return line() + token;
    }
    if (token === ",") return token + line();
    return token === ":" ? ": " : token;
  }).join("");
}
