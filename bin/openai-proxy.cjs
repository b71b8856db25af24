#!/usr/bin/env node
'use strict'
// The launcher: runs the command line on a Node new enough for it. An older Node hands over to the pinned one.
const { spawn } = require('node:child_process')
const { existsSync } = require('node:fs')
const path = require('node:path')
const { pathToFileURL } = require('node:url')

const root = path.join(__dirname, '..')
const entry = path.join(root, 'src', 'cli', 'main.ts')
const pinned = path.join(root, 'node_modules', '.bin', 'node')
const NODE_MAJOR_MIN = 24

if (Number(process.versions.node.split('.')[0]) >= NODE_MAJOR_MIN) {
  import(pathToFileURL(entry).href)
} else if (existsSync(pinned)) {
  const child = spawn(pinned, [entry, ...process.argv.slice(2)], { stdio: 'inherit' })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('exit', (code, signal) => process.exit(signal ? 1 : code))
} else {
  console.error(
    `openai-proxy needs Node ${NODE_MAJOR_MIN} or newer; this is ${process.version}. Run "npm ci" in the checkout first.`,
  )
  process.exit(1)
}
