'use strict'
// Makes a fresh checkout runnable: installs the locked dependencies when they are missing or older than the lock file.
// Written for any Node, because it runs before the pinned one (node_modules/.bin/node) is there.
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

const root = path.join(__dirname, '..')
const installed = path.join(root, 'node_modules', '.package-lock.json')
const locked = path.join(root, 'package-lock.json')

if (isStale()) {
  console.error('Installing dependencies (once; about 600 MB with the pinned Node and the embedded Postgres)...')
  const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'
  const options = { cwd: root, stdio: ['ignore', 'ignore', 'inherit'], shell: process.platform === 'win32' }
  // Not omit=optional: the pinned Node and the database binaries are optional dependencies, one per platform.
  const result = spawnSync(npm, ['ci', '--include=dev', '--include=optional', '--loglevel=error'], options)
  if (result.status !== 0) {
    console.error('npm ci failed: see the lines above. Is the npm registry reachable?')
    process.exit(result.status || 1)
  }
}

function isStale() {
  if (!fs.existsSync(installed)) return true
  return fs.statSync(locked).mtimeMs > fs.statSync(installed).mtimeMs
}
