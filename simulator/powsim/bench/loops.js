// The tries of an honest client in JavaScript, as browsers (WebCrypto) and Node scripts (createHash) make them.
// argv: loop, challenge in hex, bits, seconds. With seconds 0: print the lowest nonce. Else: the rate of that time.
const [, loop, hex, bitsText, secondsText] = process.argv;
const { webcrypto, createHash } = require("crypto");
const { performance } = require("perf_hooks");
const head = Buffer.from(hex, "hex");
const bytes = new Uint8Array(head.length + 8);
bytes.set(head);
const view = new DataView(bytes.buffer);
const bits = Number(bitsText);
const subtle = loop === "webcrypto" ? (globalThis.crypto || webcrypto).subtle : null;

function put(nonce) {
  view.setUint32(head.length, Math.floor(nonce / 4294967296));
  view.setUint32(head.length + 4, nonce >>> 0);
}

// Up to 32 bits, which is more than a loop of these solves in a benchmark.
function solved(first) {
  return bits === 0 || first >>> (32 - bits) === 0;
}

// The digest is awaited in every try, as the widgets do: that is most of what they cost.
async function webcryptoLoop(begin, count) {
  for (let nonce = begin; nonce < begin + count; nonce++) {
    put(nonce);
    const digest = new DataView(await subtle.digest("SHA-256", bytes));
    if (solved(digest.getUint32(0))) return nonce;
  }
  return -1;
}

async function nodeLoop(begin, count) {
  for (let nonce = begin; nonce < begin + count; nonce++) {
    put(nonce);
    if (solved(createHash("sha256").update(bytes).digest().readUInt32BE(0))) return nonce;
  }
  return -1;
}

async function time(search, seconds) {
  const began = performance.now();
  let tries = 0;
  let spent = 0;
  do {
    await search(tries, 200);
    tries += 200;
    spent = (performance.now() - began) / 1000;
  } while (spent < seconds);
  return { tries, seconds: spent };
}

(async () => {
  const search = loop === "webcrypto" ? webcryptoLoop : nodeLoop;
  const seconds = Number(secondsText);
  if (seconds === 0) {
    console.log(JSON.stringify({ nonce: await search(0, 2 ** 32), version: process.version }));
    return;
  }
  await time(search, 0.3 * seconds); // until the engine has compiled the loop
  console.log(JSON.stringify(await time(search, seconds)));
})().catch((error) => {
  console.error(String(error));
  process.exit(1);
});
