'use strict'
// Makes dist/ for the published package: Node strips types everywhere but under node_modules, where packages live.
// With --remove takes it away again, so that a checkout has one way to run.
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

const root = path.join(__dirname, '..')
const dist = path.join(root, 'dist')
const tsc = path.join(root, 'node_modules', '.bin', 'tsc')

fs.rmSync(dist, { recursive: true, force: true })
if (process.argv.includes('--remove')) process.exit()
const { status } = spawnSync(tsc, ['-p', 'tsconfig.build.json'], { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] })
if (status !== 0) process.exit(status || 1)
const { include } = JSON.parse(fs.readFileSync(path.join(root, 'tsconfig.build.json'), 'utf8'))
for (const folder of include) {
  // Migrations and whatever else is read at run time.
  fs.cpSync(path.join(root, folder), path.join(dist, folder), {
    recursive: true,
    filter: (file) => !file.endsWith('.ts'),
  })
}
// The sources look for the manifest beside their folder.
fs.copyFileSync(path.join(root, 'package.json'), path.join(dist, 'package.json'))
