'use strict'
// npm links the binaries of dependencies but not the package's own, so that `npx openai-proxy` works in the checkout too.
const fs = require('node:fs')
const path = require('node:path')

const bin = path.join(__dirname, '..', 'node_modules', '.bin')
const link = path.join(bin, 'openai-proxy')
if (fs.existsSync(bin) && process.platform !== 'win32') {
  fs.rmSync(link, { force: true })
  fs.symlinkSync(path.join('..', '..', 'bin', 'openai-proxy.cjs'), link)
}
