import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'

/** A span of time, its end excluded, and the zone whose days and hours it is divided into. */
export interface Period {
  start: Date
  end: Date
  timeZone: string
}

/** As asked for: parsed, but not yet placed in time, which takes the database's time zones. */
export interface PeriodAsked {
  start: Moment | undefined
  end: Moment
  timeZone: string
  /** What whoever asks calls them. */
  names: Names
}

interface Names {
  start: string
  end: string
  timeZone: string
}

/** `local` is a wall clock's time in the period's zone, `instant` the same everywhere. Both ISO 8601. */
type Moment = { local: string } | { instant: string }

/**
 * Reads a period. A date alone is a whole day of the zone, also as the end: `2026-11-01` to `2026-11-30` is all of November. A date with
 * a time is that moment, and as the end excluded. The end is now unless given, the start thirty days before the end.
 * @throws {AppError} `invalid_request`, naming what is wrong.
 */
export function parsePeriod(
  text: { start?: string | undefined; end?: string | undefined; timeZone?: string | undefined },
  names: Names = WIRE_NAMES,
): PeriodAsked {
  return {
    start: text.start === undefined ? undefined : parseMoment(text.start, names.start, 0),
    end: text.end === undefined ? { instant: new Date().toISOString() } : parseMoment(text.end, names.end, 1),
    timeZone: parseTimeZone(text.timeZone ?? 'UTC', names.timeZone),
    names,
  }
}

const WIRE_NAMES: Names = { start: 'start_date', end: 'end_date', timeZone: 'tz' }

/** @throws {AppError} `invalid_request` when the start is not before the end, or too long before it. */
export async function placePeriod(tx: Tx, asked: PeriodAsked): Promise<Period> {
  const { timeZone, names } = asked
  if (timeZone !== 'UTC') await requireKnownZone(tx, timeZone, names.timeZone)
  const end = await place(tx, asked.end, timeZone)
  const start = asked.start ? await place(tx, asked.start, timeZone) : new Date(end.getTime() - DEFAULT_DAYS * DAY_MS)
  if (start >= end) {
    throw new AppError(
      'invalid_request',
      `The period ends before it begins: ${names.start} must lie before ${names.end}.`,
      { param: names.start },
    )
  }
  if (end.getTime() - start.getTime() > DAYS_MAX * DAY_MS) {
    throw new AppError('invalid_request', `A period has up to ${DAYS_MAX} days.`, { param: names.start })
  }
  return { start, end, timeZone }
}

const DAY_MS = 86_400_000
const DEFAULT_DAYS = 30
/** Ten years. */
export const DAYS_MAX = 3660

function parseMoment(text: string, param: string, wholeDays: 0 | 1): Moment {
  // In a query an unescaped + reads as a blank.
  const match = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+\- ]\d\d:?\d\d)?)?$/i.exec(text)
  const [, date = '', hour, minute = '00', second = '00', fraction = '', zone] = match ?? []
  if (!match || !isDay(date) || Number(hour ?? 0) > 23 || Number(minute) > 59 || Number(second) > 59) {
    throw badMoment(param)
  }
  if (hour === undefined) return { local: `${addDays(date, wholeDays)}T00:00:00` }
  const local = `${date}T${hour}:${minute}:${second}.${fraction.slice(0, 3).padEnd(3, '0')}`
  if (zone === undefined) return { local }
  const offset = zone.toUpperCase() === 'Z' ? 'Z' : zone.replace(' ', '+').replace(/(\d\d):?(\d\d)$/, '$1:$2')
  const instant = new Date(`${local}${offset}`)
  if (Number.isNaN(instant.getTime())) throw badMoment(param)
  return { instant: instant.toISOString() }
}

function badMoment(param: string): AppError {
  return new AppError(
    'invalid_request',
    `${param} is a day such as 2026-11-01 or a time such as 2026-11-01T12:00:00Z, from 2000 to 2099.`,
    { param },
  )
}

/** A day that the calendar has, in this century: nothing was ever asked of OpenAI outside of it. */
function isDay(text: string): boolean {
  const day = new Date(`${text}T00:00:00Z`)
  return text.startsWith('20') && !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text)
}

function addDays(date: string, days: number): string {
  return new Date(Date.parse(`${date}T00:00:00Z`) + days * DAY_MS).toISOString().slice(0, 10)
}

/** A name of the IANA database; offsets are none, since Postgres would read their signs the other way round. */
function parseTimeZone(text: string, param: string): string {
  const isName = /^[A-Za-z][A-Za-z0-9_+-]*(?:\/[A-Za-z0-9_+-]+)*$/.test(text) && text.length <= 64
  try {
    if (isName) {
      new Intl.DateTimeFormat('en', { timeZone: text })
      return PLACE_OF_ZONE[text.toUpperCase()] ?? text
    }
  } catch {
    // Not a zone that is known here.
  }
  throw badTimeZone(param)
}

/**
 * Zones that have summer time, whose names Postgres takes for their winter time alone.
 * @see https://github.com/eggert/tz/blob/main/backward
 */
const PLACE_OF_ZONE: Record<string, string> = {
  CET: 'Europe/Brussels',
  EET: 'Europe/Athens',
  MET: 'Europe/Brussels',
  WET: 'Europe/Lisbon',
}

function badTimeZone(param: string): AppError {
  return new AppError('invalid_request', `${param} is the name of a time zone, such as Europe/Berlin or UTC.`, {
    param,
  })
}

/** Node.js knows zones that this Postgres may not: `US/Pacific-New`, or those of a newer table. */
async function requireKnownZone(tx: Tx, timeZone: string, param: string): Promise<void> {
  try {
    await sql`select now() at time zone ${timeZone}::text`.execute(tx)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === UNKNOWN_ZONE) throw badTimeZone(param)
    throw error
  }
}

/** `invalid_parameter_value`: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const UNKNOWN_ZONE = '22023'

/** A local time that a change of the clocks skips is the moment after it; of one that comes twice it is the first. */
async function place(tx: Tx, moment: Moment, timeZone: string): Promise<Date> {
  if ('instant' in moment) return new Date(moment.instant)
  const { rows } = await sql<{ at: Date }>`
    select first_moment_of(${moment.local}::timestamp, ${timeZone}) as at`.execute(tx)
  if (!rows[0]) throw new Error('A select without a table has one row.')
  return rows[0].at
}
