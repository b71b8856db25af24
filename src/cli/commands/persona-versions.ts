import { type Command, Option } from 'commander'
import { OPERATOR } from '../../auth/caller.ts'
import { AppError } from '../../errors.ts'
import { getPersonaInAnyOrganization, type Persona, type Rollout } from '../../personas/service.ts'
import {
  diffVersions,
  getVersion,
  listVersions,
  type PersonaVersion,
  rollBackPersona,
  setRollout,
} from '../../personas/versions.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { type Column, formatTable, formatTime, type OutputOptions, plain, printResult } from '../output.ts'

export function addPersonaVersionCommands(program: Command): void {
  addCommand(
    program,
    'persona-versions',
    "list a persona's versions, show one, or compare two",
    'persona-versions <persona-id> --diff 1 2',
  )
    .argument('<persona-id>', 'the id that list-personas shows')
    .option('--show <version>', 'print the content of this version')
    .option('--diff <versions...>', 'print what changed from one version to another')
    .action(showVersions)

  addCommand(
    program,
    'rollback-persona',
    'give every call an earlier version of a persona again',
    'rollback-persona <persona-id> 1',
  )
    .argument('<persona-id>', 'the id that list-personas shows')
    .argument('<version>', 'the version, as persona-versions shows it')
    .action(async (id: string, version: string, options: OutputOptions) => {
      await using foundation = await connect()
      const { caller } = await getPersonaInAnyOrganization(foundation, OPERATOR, id)
      const persona = await rollBackPersona(foundation, caller, id, readWhole(version, 'A version'))
      printResult(options, { id: persona.id, name: persona.name, version: persona.version }, [
        `Persona rolled back successfully: ${persona.id} (${plain(persona.name)})`,
        `Version: ${persona.version}`,
      ])
    })

  addCommand(
    program,
    'rollout-persona',
    'divide calls between versions of a persona, to compare them',
    'rollout-persona <persona-id> 1=90 2=10 --sticky-by user',
  )
    .argument('<persona-id>', 'the id that list-personas shows')
    .argument('[shares...]', 'version=percent, which make 100 together; without any the rollout is shown')
    .addOption(
      new Option('--sticky-by <what>', 'what keeps to the version it once got')
        .choices(['session', 'user'])
        .default('session'),
    )
    .option('--end', 'end the rollout: every call gets the current version')
    .action(rollOut)
}

async function showVersions(id: string, options: OutputOptions & { show?: string; diff?: string[] }): Promise<void> {
  if (options.show !== undefined && options.diff !== undefined) {
    throw new AppError('invalid_request', '--show and --diff exclude each other.')
  }
  await using foundation = await connect()
  const { caller, persona } = await getPersonaInAnyOrganization(foundation, OPERATOR, id)
  if (options.diff) {
    if (options.diff.length !== 2) throw new AppError('invalid_request', '--diff takes two versions: --diff 1 2')
    const [from = 0, to = 0] = options.diff.map((text) => readWhole(text, 'A version'))
    const lines = await diffVersions(foundation, caller, id, { from, to })
    printResult(
      options,
      { id, from, to, lines },
      lines.map(({ kind, text }) => `${SIGNS[kind]} ${plain(text)}`.trimEnd()),
    )
  } else if (options.show === undefined) {
    const versions = await listVersions(foundation, caller, id)
    printResult(options, { id, name: persona.name, versions: versions.map(toDocument) }, [
      '',
      `Versions of Persona: ${plain(persona.name)} (${persona.id})`,
      ...formatTable(COLUMNS, versions),
    ])
  } else {
    const version = await getVersion(foundation, caller, id, readWhole(options.show, 'A version'))
    printResult(options, { id, ...toDocument(version) }, version.content.split('\n').map(plain))
  }
}

async function rollOut(
  id: string,
  texts: string[],
  options: OutputOptions & { stickyBy: Rollout['stickyBy']; end?: boolean },
): Promise<void> {
  if (options.end && texts.length > 0) throw new AppError('invalid_request', '--end takes no shares.')
  const versions = texts.map(readShare)
  await using foundation = await connect()
  const { caller, persona: before } = await getPersonaInAnyOrganization(foundation, OPERATOR, id)
  const rollout = options.end ? undefined : { stickyBy: options.stickyBy, versions }
  const isShown = texts.length === 0 && !options.end
  const persona = isShown ? before : await setRollout(foundation, caller, id, rollout)
  printResult(
    options,
    {
      id: persona.id,
      name: persona.name,
      version: persona.version,
      rollout: persona.rollout ? { sticky_by: persona.rollout.stickyBy, versions: persona.rollout.versions } : null,
    },
    formatRollout(persona),
  )
}

function formatRollout({ id, name, version, rollout }: Persona): string[] {
  const head = `Rollout of Persona: ${plain(name)} (${id})`
  if (!rollout) return [head, `None: every call gets version ${version}`]
  return [
    head,
    `Sticky by: ${rollout.stickyBy}`,
    ...rollout.versions.map((share) => `Version ${share.version}: ${share.percent}%`),
  ]
}

function readShare(text: string) {
  const [version = '', percent = '', ...rest] = text.split('=')
  if (rest.length > 0 || percent === '') {
    throw new AppError('invalid_request', `"${plain(text)}" is no share: write version=percent, as in 1=90 2=10.`)
  }
  return { version: readWhole(version, 'A version'), percent: readWhole(percent.replace(/%$/, ''), 'A share') }
}

function readWhole(text: string, what: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text)
  throw new AppError('invalid_request', `${what} is a whole number, not "${plain(text)}".`)
}

function toDocument(version: PersonaVersion) {
  return {
    version: version.version,
    percent: version.percent,
    content: version.content,
    variables: version.variables,
    created_at: version.createdAt.toISOString(),
    created_by: version.createdBy,
  }
}

const SIGNS = { same: ' ', removed: '-', added: '+' } as const
const COLUMNS: Column<PersonaVersion>[] = [
  { title: 'Version', align: 'right', value: ({ version }) => String(version) },
  { title: 'Calls', align: 'right', value: ({ percent }) => `${percent}%` },
  { title: 'Length', align: 'right', value: ({ content }) => String([...content].length) },
  { title: 'Created', value: ({ createdAt }) => formatTime(createdAt) },
  { title: 'By', value: ({ createdBy }) => createdBy },
]
