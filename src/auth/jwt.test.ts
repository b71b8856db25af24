import assert from 'node:assert/strict'
import { generateKeyPairSync, hkdfSync, randomBytes, randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { CompactSign, type JWTHeaderParameters, SignJWT } from 'jose'
import { askUntil } from '../../test/poll.ts'
import { Secret } from '../secret.ts'
import { signToken, type TokenToSign, verifyToken } from './jwt.ts'
import { type JwtSecrets, openJwtSecrets } from './jwt-secrets.ts'

const SECRET = new Secret(randomBytes(48).toString('base64url'))
const ORGANIZATION = randomUUID()
const NOW = Math.floor(Date.now() / 1000)
const CLAIMS = { sub: ORGANIZATION, scope: 'inference org:admin', jti: randomUUID(), iat: NOW, exp: NOW + 3600 }
const HEADER = { alg: 'HS256', typ: 'JWT', kid: 'g1' }

test('a token that we signed is ours, with all it says', async () => {
  const token: TokenToSign = {
    organizationId: ORGANIZATION,
    organizationName: 'Åcme "quoted"',
    tokenId: randomUUID(),
    generation: 7,
    scopes: ['inference'],
    externalUserId: 'é-user',
    expiresAtSeconds: NOW + 60,
  }
  const jwt = await signToken(SECRET, token)
  assert.equal(`${jwt}`, '[secret]')
  assert.deepEqual(await verify(jwt.reveal()), {
    organizationId: ORGANIZATION,
    tokenId: token.tokenId,
    generation: 7,
    scopes: ['inference'],
    externalUserId: 'é-user',
    expiresAtSeconds: NOW + 60,
  })
})

test('a token that any JWT library makes with our secret is ours: the tests below differ from it in one thing each', async () => {
  assert.equal((await verify(await sign()))?.organizationId, ORGANIZATION)
})

test('no spelling of "no algorithm" is accepted', async () => {
  const [, payload = '', signature = ''] = (await sign()).split('.')
  for (const alg of ['none', 'None', 'nOnE', 'NONE', '', null, undefined, ['HS256'], 'hs256', 'HS256 ']) {
    for (const tail of ['', signature]) {
      const header = encode({ ...HEADER, alg })
      assert.equal(await verify(`${header}.${payload}.${tail}`), undefined, String(alg))
    }
  }
  assert.equal(await verify(`${encode({})}.${payload}.${signature}`), undefined)
})

test('no other algorithm is accepted, not even with our own secret or with a public key as the secret', async () => {
  for (const alg of ['HS384', 'HS512']) assert.equal(await verify(await sign({}, { alg })), undefined, alg)
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const ed = generateKeyPairSync('ed25519')
  for (const [alg, pair] of [
    ['RS256', rsa],
    ['PS256', rsa],
    ['ES256', ec],
    ['EdDSA', ed],
  ] as const) {
    const jwt = await new SignJWT(CLAIMS).setProtectedHeader({ ...HEADER, alg }).sign(pair.privateKey)
    assert.equal(await verify(jwt), undefined, alg)
  }
  const publicKey = rsa.publicKey.export({ type: 'spki', format: 'pem' }).toString()
  for (const key of [publicKey, 'g1', ORGANIZATION, ORGANIZATION.toUpperCase(), 'secret', SECRET.reveal()]) {
    const jwt = await new SignJWT(CLAIMS).setProtectedHeader(HEADER).sign(Buffer.from(key))
    assert.equal(await verify(jwt), undefined, key.slice(0, 20))
  }
})

test('a header that says more than alg, typ and kid refuses the token', async () => {
  const more = [
    { jwk: { kty: 'oct', k: 'AAAA' } },
    { jku: 'https://evil.example/keys' },
    { x5u: 'https://evil.example/cert' },
    { x5c: ['AAAA'] },
    { zip: 'DEF' },
    { cty: 'JWT' },
    { unknown: 1 },
  ]
  for (const field of more) assert.equal(await verify(await sign({}, field)), undefined, JSON.stringify(field))
  const [, payload, signature] = (await sign()).split('.')
  for (const field of [{ crit: ['b64'], b64: false }, { b64: false }, { crit: [] }, { crit: ['exp'] }]) {
    assert.equal(await verify(`${encode({ ...HEADER, ...field })}.${payload}.${signature}`), undefined)
  }
})

test('a key id that is not a generation refuses the token', async () => {
  for (const kid of [
    '',
    'g',
    'g0',
    'g01',
    'g-1',
    'g1.5',
    'g1e1',
    'G1',
    '1',
    'g9999999999',
    "g1' or true --",
    '../g1',
  ]) {
    assert.equal(await verify(await sign({}, { kid })), undefined, kid)
  }
  const [, payload, signature] = (await sign()).split('.')
  for (const kid of [1, null, ['g1'], { g: 1 }]) {
    assert.equal(await verify(`${encode({ ...HEADER, kid })}.${payload}.${signature}`), undefined, JSON.stringify(kid))
  }
})

test("no organization's secret signs for another, nor one generation's for another", async () => {
  const organizations = [ORGANIZATION, randomUUID(), randomUUID()]
  for (const signer of organizations) {
    for (const claimed of organizations) {
      for (const [signedUnder, kid] of [
        [1, 1],
        [1, 2],
        [2, 1],
        [2, 2],
        [11, 1],
      ] as const) {
        const jwt = await new SignJWT({ ...CLAIMS, sub: claimed })
          .setProtectedHeader({ ...HEADER, kid: `g${kid}` })
          .sign(secretOf(signer, signedUnder))
        const isOurs = signer === claimed && signedUnder === kid
        assert.equal((await verify(jwt))?.organizationId, isOurs ? claimed : undefined)
      }
    }
  }
  const otherInstallation = new Secret(randomBytes(48).toString('base64url'))
  assert.equal(await verifyToken(alone(otherInstallation), await sign(), { acceptLegacy: true }), undefined)
})

test('every changed character of a token refuses it', async () => {
  const jwt = await sign()
  const last = jwt.length - 1
  for (let at = 0; at < jwt.length; at += 1) {
    const character = jwt[at] === 'A' ? 'B' : 'A'
    const changed = jwt.slice(0, at) + character + jwt.slice(at + 1)
    // The last character carries bits that belong to no byte.
    const isSameBytes = at === last && Buffer.from(changed.split('.')[2] ?? '', 'base64url').equals(signatureOf(jwt))
    if (!isSameBytes) assert.equal(await verify(changed), undefined, `character ${at}`)
  }
})

test('a time that is missing, of another type or beyond its bounds refuses the token', async () => {
  const year = 365 * 86_400
  for (const exp of [
    undefined,
    null,
    String(NOW + 3600),
    NOW + 3600.5,
    -1,
    0,
    1e300,
    2 ** 53,
    NOW + 11 * year,
    NOW - 61,
    [NOW + 3600],
    true,
  ]) {
    assert.equal(await verify(await signRaw({ ...CLAIMS, exp })), undefined, `exp ${exp}`)
  }
  for (const iat of [undefined, null, String(NOW), NOW + 0.5, -1, NOW + 120]) {
    assert.equal(await verify(await signRaw({ ...CLAIMS, iat })), undefined, `iat ${iat}`)
  }
  for (const nbf of [NOW + 120, String(NOW), 'soon']) {
    assert.equal(await verify(await signRaw({ ...CLAIMS, nbf })), undefined, `nbf ${nbf}`)
  }
})

test('clocks may differ by a minute', async () => {
  for (const times of [{ exp: NOW - 30 }, { iat: NOW + 30 }, { nbf: NOW + 30 }, { nbf: NOW - 3600 }]) {
    assert.equal((await verify(await sign({ ...times })))?.organizationId, ORGANIZATION, JSON.stringify(times))
  }
})

test('a claim that is missing, of another type or for another audience refuses the token', async () => {
  const cases: object[] = [
    { sub: undefined },
    { sub: 'acme' },
    { sub: `${ORGANIZATION} ` },
    { sub: [ORGANIZATION] },
    { jti: undefined },
    { jti: 'x' },
    { jti: 5 },
    { scope: undefined },
    { scope: ['inference'] },
    { uid: '' },
    { uid: 5 },
    { uid: null },
    { aud: 'someone' },
    { aud: [] },
  ]
  for (const claims of cases) {
    const jwt = await signRaw({ ...CLAIMS, ...claims })
    assert.equal(await verify(jwt), undefined, JSON.stringify(claims))
  }
})

test('scopes are those that exist, whole words of the claim', async () => {
  const scopesOf = async (scope: string) => (await verify(await sign({ scope })))?.scopes
  assert.deepEqual(await scopesOf('org:admin inference'), ['inference', 'org:admin'])
  assert.deepEqual(await scopesOf('inference operator root org:admin2'), ['inference'])
  assert.deepEqual(await scopesOf('INFERENCE org:adminx inference,org:admin'), [])
  assert.deepEqual(await scopesOf(''), [])
})

test('a token of the earlier system is accepted only where that is asked for, signed with the whole secret', async () => {
  const { sub, iat, exp } = CLAIMS
  const legacy = await new SignJWT({ sub, iat, exp, org_name: 'x' })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .sign(Buffer.from(SECRET.reveal()))
  assert.equal(await verify(legacy), undefined)
  const claims = await verifyToken(alone(SECRET), legacy, { acceptLegacy: true })
  assert.deepEqual(
    [claims?.organizationId, claims?.tokenId, claims?.scopes],
    [ORGANIZATION, undefined, ['inference', 'org:admin']],
  )

  const withoutEnd = await new SignJWT({ sub, iat })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(Buffer.from(SECRET.reveal()))
  assert.equal(await verifyToken(alone(SECRET), withoutEnd, { acceptLegacy: true }), undefined)
  const derived = await new SignJWT({ sub, iat, exp })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(secretOf(ORGANIZATION, 1))
  assert.equal(await verifyToken(alone(SECRET), derived, { acceptLegacy: true }), undefined)
})

test('what is no token is refused, not thrown at', async () => {
  const jwt = await sign()
  const [header, payload, signature] = jwt.split('.')
  for (const text of [
    '',
    '.',
    '..',
    'a.b.c',
    jwt.slice(0, -1),
    `${jwt}.x`,
    `${jwt} `,
    `${header}.${payload}.`,
    `${header}..${signature}`,
    `${encode([])}.${payload}.${signature}`,
    `${encode(null)}.${payload}.${signature}`,
    `${header}.${encode('x')}.${signature}`,
    `${header}.${Buffer.from('{"sub":').toString('base64url')}.${signature}`,
    'é.é.é',
    `${'a'.repeat(9000)}.b.c`,
  ]) {
    assert.equal(await verify(text), undefined, text.slice(0, 40))
  }
})

test('a token under the former secret is accepted until its grace ends, and ends with it', async () => {
  const next = new Secret(randomBytes(48).toString('base64url'))
  let now = Date.now()
  const until = new Date(now + 600_000)
  const secrets = await openJwtSecrets(
    async () => ({ jwtSecretKey: next, jwtSecretKeyPrevious: SECRET, jwtPreviousUntil: until }),
    () => now,
  )
  const former = await sign({ exp: NOW + 86_400 })

  const during = await verifyToken(secrets, former, { acceptLegacy: false })
  const short = await verifyToken(secrets, await sign({ exp: NOW + 60 }), { acceptLegacy: false })
  now = until.getTime()

  assert.equal(
    during?.expiresAtSeconds,
    until.getTime() / 1000 - 60,
    'the clock skew of a minute that callers get is in it',
  )
  assert.equal(short?.expiresAtSeconds, NOW + 60)
  assert.equal(await verifyToken(secrets, former, { acceptLegacy: false }), undefined)
})

test('without a time the former secret is accepted for as long as it is given; a third one never is', async () => {
  const [next, third] = [1, 2].map(() => new Secret(randomBytes(48).toString('base64url'))) as [Secret, Secret]
  const given = { jwtSecretKey: next, jwtSecretKeyPrevious: SECRET, jwtPreviousUntil: undefined }
  const secrets = await openJwtSecrets(async () => given)

  assert.equal((await verifyToken(secrets, await sign(), { acceptLegacy: false }))?.expiresAtSeconds, CLAIMS.exp)
  assert.equal(
    await verifyToken({ ...alone(third), previous: secrets.previous }, `${await sign()}x`, { acceptLegacy: false }),
    undefined,
  )
  assert.equal(await verifyToken(alone(third), await sign(), { acceptLegacy: false }), undefined)
})

test('a hundred tokens under a secret that was put in place a moment ago are all accepted', async () => {
  let signing = new Secret(randomBytes(48).toString('base64url'))
  const secrets = await openJwtSecrets(async () => ({
    jwtSecretKey: signing,
    jwtSecretKeyPrevious: undefined,
    jwtPreviousUntil: undefined,
  }))
  const openedAt = performance.now()
  await askUntil(async () => performance.now() - openedAt > 200, Boolean)
  signing = SECRET
  const token = await sign()

  const all = await Promise.all(Array.from({ length: 100 }, () => verifyToken(secrets, token, { acceptLegacy: false })))

  assert.ok(all.every((claims) => claims?.organizationId === ORGANIZATION))
})

/** An installation that has this secret and no other. */
function alone(signing: Secret): JwtSecrets {
  return { signing, previous: undefined, haveChangedSince: async () => false }
}

function verify(token: string) {
  return verifyToken(alone(SECRET), token, { acceptLegacy: false })
}

function sign(claims: object = {}, header: Partial<JWTHeaderParameters> = {}): Promise<string> {
  return new SignJWT({ ...CLAIMS, ...claims })
    .setProtectedHeader({ ...HEADER, ...header })
    .sign(secretOf(ORGANIZATION, 1))
}

/** With claims that a JWT library would refuse to write. */
function signRaw(claims: object): Promise<string> {
  return new CompactSign(Buffer.from(JSON.stringify(claims))).setProtectedHeader(HEADER).sign(secretOf(ORGANIZATION, 1))
}

/** The secret of an organization's generation, derived here once more: a change of it would end every token there is. */
function secretOf(organizationId: string, generation: number): Uint8Array {
  const info = `openai-inference-proxy jwt g${generation}`
  return Buffer.from(hkdfSync('sha256', SECRET.reveal(), organizationId, info, 32))
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

function signatureOf(jwt: string): Buffer {
  return Buffer.from(jwt.split('.')[2] ?? '', 'base64url')
}
