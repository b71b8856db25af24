import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isTrustedOrigin, parseBaseUrl } from './base-url.ts'

const TRUSTED = {
  openaiBaseUrl: new URL('https://api.openai.com/v1'),
  openaiAllowedOrigins: ['https://gateway.example:8443', 'http://10.0.0.5:9000'],
}

test('OpenAI, its regions, the configured origin and the allowed ones are trusted, in their normal form', () => {
  for (const [text, url] of [
    ['https://api.openai.com/v1', 'https://api.openai.com/v1'],
    ['https://eu.api.openai.com/v1/', 'https://eu.api.openai.com/v1'],
    ['HTTPS://US.API.OPENAI.COM:443/v1//', 'https://us.api.openai.com/v1'],
    ['https://gateway.example:8443/openai', 'https://gateway.example:8443/openai'],
    ['http://10.0.0.5:9000', 'http://10.0.0.5:9000'],
  ] as const) {
    assert.equal(parseBaseUrl(text, TRUSTED), url)
  }
})

test('no spelling of an address of this machine or of a metadata service is trusted', () => {
  const hosts = [
    '127.0.0.1',
    '127.1',
    '2130706433',
    '0x7f.1',
    '017700000001',
    '0',
    '0.0.0.0',
    'localhost',
    'localhost.',
  ]
  hosts.push(
    '[::1]',
    '[::]',
    '[::ffff:127.0.0.1]',
    '[::ffff:7f00:1]',
    '１２７.０.０.１',
    '127.0.0.1.nip.io',
    '①②⑦.0.0.1',
  )
  hosts.push('169.254.169.254', '[::ffff:169.254.169.254]', '[::ffff:a9fe:a9fe]', '0xa9fea9fe', '2852039166')
  hosts.push(
    'metadata.google.internal',
    '[fd00:ec2::254]',
    '100.100.100.200',
    '10.0.0.5',
    '10.0.0.5:5432',
    'localhost:5432',
  )
  for (const host of hosts) {
    for (const scheme of ['http', 'https']) assertRefused(`${scheme}://${host}/v1`)
  }
})

test('a host that only looks like OpenAI is not trusted', () => {
  for (const host of [
    'api.openai.com.evil.example',
    'evil-api.openai.com',
    'a.b.api.openai.com',
    'apiopenai.com',
    'api.openai.com@evil.example',
    'evil.example#api.openai.com',
    'evil.example?api.openai.com',
    'evil.example\\@api.openai.com',
    'api.openai.com:8443',
    'api.openai.com.',
    'аpi.openai.com',
    'x_y.api.openai.com',
    '-.api.openai.com:444',
    'gateway.example',
    'gateway.example:8444',
    'sub.gateway.example:8443',
  ]) {
    assertRefused(`https://${host}/v1`)
  }
})

test('OpenAI without encryption, and every other scheme, is refused', () => {
  for (const url of [
    'http://api.openai.com/v1',
    'http://eu.api.openai.com/v1',
    'http://gateway.example:8443/v1',
    'https://10.0.0.5:9000/v1',
    'ftp://api.openai.com/v1',
    'file:///etc/passwd',
    'unix:/var/run/docker.sock',
    'http+unix://%2Fvar%2Frun%2Fdocker.sock/v1',
    'javascript:alert(1)',
    'data:,x',
    '//api.openai.com/v1',
    'api.openai.com',
    '',
    ' ',
  ]) {
    assertRefused(url)
  }
})

test('credentials, a query or a fragment in a base URL are refused', () => {
  for (const url of [
    'https://user@api.openai.com/v1',
    'https://user:password@api.openai.com/v1',
    'https://:password@api.openai.com/v1',
    'https://api.openai.com/v1?x=y',
    'https://api.openai.com/v1#x',
  ]) {
    assertRefused(url)
  }
})

test('what is refused says why, and never quotes credentials', () => {
  assert.throws(
    () => parseBaseUrl('https://user:sentinel@evil.example/v1', TRUSTED),
    (error: Error) => !error.message.includes('sentinel'),
  )
})

test('an origin that is no longer on the list is not trusted when a connection is made', () => {
  const url = new URL(parseBaseUrl('https://gateway.example:8443/v1', TRUSTED))
  assert.ok(!isTrustedOrigin(url, { ...TRUSTED, openaiAllowedOrigins: [] }))
})

test('no list at all means OpenAI and the configured origin alone', () => {
  const trusted = { openaiBaseUrl: new URL('http://127.0.0.1:9999/v1'), openaiAllowedOrigins: [] }
  assert.ok(isTrustedOrigin(new URL('http://127.0.0.1:9999/other'), trusted))
  assert.ok(!isTrustedOrigin(new URL('http://127.0.0.1:9998/v1'), trusted))
  assert.ok(!isTrustedOrigin(new URL('http://localhost:9999/v1'), trusted))
  assert.ok(!isTrustedOrigin(new URL('https://anything.example/v1'), { ...trusted, openaiAllowedOrigins: ['*'] }))
})

function assertRefused(url: string): void {
  assert.throws(() => parseBaseUrl(url, TRUSTED), { name: 'AppError', code: 'invalid_request', param: 'base_url' }, url)
}
