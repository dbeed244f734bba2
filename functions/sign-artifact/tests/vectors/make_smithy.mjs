// Writes smithy.json: the same requests presigned by the signer of AWS' SDK for JavaScript.
//
//     npm install @smithy/signature-v4@5.7.5 && node make_smithy.mjs
//
// The SDK's S3 presigner puts X-Amz-Content-Sha256=UNSIGNED-PAYLOAD and x-id into the query as well, which change the signature.
// So its signer is called directly, with the payload's marker as a header that is neither hoisted nor signed: that leaves the very
// parameters that boto3 and sign-artifact send. The inputs are read from boto3.json.
import { createHash, createHmac } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(process.cwd() + "/");
const { SignatureV4 } = require("@smithy/signature-v4");
const version = require("@smithy/signature-v4/package.json").version;

// The signer takes its hash as a class: node's own SHA-256 in that shape.
class Sha256 {
  constructor(secret) {
    this.hash = secret === undefined ? createHash("sha256") : createHmac("sha256", Buffer.from(secret));
  }
  update(data) {
    this.hash.update(typeof data === "string" ? data : Buffer.from(data));
  }
  async digest() {
    return new Uint8Array(this.hash.digest());
  }
}

// As the SDK does it: every byte but the unreserved ones, and the slashes between segments stay.
const escape = (text) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase());

async function presign({ endpoint, path_style, bucket, key, region, key_id, secret, token, instant, expires }) {
  const url = new URL(endpoint);
  const prefix = url.pathname.replace(/\/$/, "");
  const path = key.split("/").map(escape).join("/");
  const hostname = path_style ? url.hostname : `${bucket}.${url.hostname}`;
  const host = url.port === "" ? hostname : `${hostname}:${url.port}`;
  const request = {
    method: "GET",
    protocol: url.protocol,
    hostname,
    port: url.port === "" ? undefined : Number(url.port),
    path: path_style ? `${prefix}/${escape(bucket)}/${path}` : `${prefix}/${path}`,
    query: {},
    headers: { host, "x-amz-content-sha256": "UNSIGNED-PAYLOAD" },
  };
  const signer = new SignatureV4({
    service: "s3",
    region,
    credentials: { accessKeyId: key_id, secretAccessKey: secret, sessionToken: token ?? undefined },
    sha256: Sha256,
    uriEscapePath: false,
    applyChecksum: false,
  });
  const marker = new Set(["x-amz-content-sha256"]);
  const signed = await signer.presign(request, {
    expiresIn: expires,
    signingDate: new Date(instant * 1000),
    unhoistableHeaders: marker,
    unsignableHeaders: marker,
  });
  const query = Object.entries(signed.query).map(([name, value]) => `${escape(name)}=${escape(value)}`);
  return `${url.protocol}//${host}${signed.path}?${query.join("&")}`;
}

const { vectors } = JSON.parse(readFileSync(new URL("boto3.json", import.meta.url), "utf8"));
const made = [];
for (const vector of vectors) made.push({ ...vector, url: await presign(vector) });
const made_by = `@smithy/signature-v4 ${version}, make_smithy.mjs`;
const lines = made.map((vector) => JSON.stringify(vector)).join(",\n");
writeFileSync(new URL("smithy.json", import.meta.url), `{"made_by": ${JSON.stringify(made_by)}, "vectors": [\n${lines}\n]}\n`);
const signature = (url) => new URL(url).searchParams.get("X-Amz-Signature");
const differing = made.filter((vector, index) => signature(vector.url) !== signature(vectors[index].url));
console.log(`${made.length} vectors, ${differing.length} of them unlike boto3's`);
for (const { url } of differing) console.log(url);
