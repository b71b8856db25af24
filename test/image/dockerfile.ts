import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export const ROOT = join(import.meta.dirname, '../..')

export interface Instruction {
  name: string
  /** `--from=build` as `{ from: 'build' }`. */
  flags: Record<string, string>
  /** Without the flags; JSON arrays as they are written. */
  text: string
}

export interface Stage {
  base: string
  name: string | undefined
  instructions: Instruction[]
}

/** `docker/Dockerfile`, as far as it goes: continuation lines, flags and stages. */
export function readDockerfile(): Stage[] {
  const source = readFileSync(join(ROOT, 'docker/Dockerfile'), 'utf8')
    .split('\n')
    .filter((line) => !/^\s*#/.test(line))
    .join('\n')
  const stages: Stage[] = []
  for (const line of source.replaceAll(/\\\n/g, ' ').split('\n')) {
    const [, name = '', rest = ''] = /^([A-Z]+)\s+(.*)$/.exec(line.trim()) ?? []
    const [, flagText = '', text = ''] = /^((?:--[a-z-]+=\S+\s+)*)(.*)$/.exec(rest) ?? []
    const flags = Object.fromEntries([...flagText.matchAll(/--([a-z-]+)=(\S+)/g)].map(([, key, value]) => [key, value]))
    if (name === 'FROM') {
      const [base = '', , stage] = text.split(/\s+/)
      stages.push({ base, name: stage, instructions: [] })
    } else if (name !== '') stages.at(-1)?.instructions.push({ name, flags, text })
  }
  return stages
}

/** Whether `.dockerignore` keeps a file of the checkout from the build: the last pattern that matches decides. */
export function isIgnored(path: string): boolean {
  let ignored = false
  for (const line of readFileSync(join(ROOT, '.dockerignore'), 'utf8').split('\n')) {
    if (line === '' || line.startsWith('#')) continue
    if (patternOf(line.replace(/^!/, '')).test(path)) ignored = !line.startsWith('!')
  }
  return ignored
}

/** A folder stands for all that is in it; `*` is also what begins with a dot. */
function patternOf(glob: string): RegExp {
  const source = glob.replaceAll('.', '\\.').replaceAll(/\*\*\/|\*/g, (star) => (star === '*' ? '[^/]*' : '(?:.*/)?'))
  return new RegExp(`^${source}(?:/|$)`)
}
