import { newOpenApiRoutes } from '../http/openapi.ts'
import type { Credential } from './authenticate.ts'

/** What authentication leaves for the routes. */
export interface RouteEnv {
  Variables: { caller: Credential }
}

export type Routes = ReturnType<typeof newRoutes>

/** An empty set of routes that know their caller. */
export function newRoutes() {
  return newOpenApiRoutes<RouteEnv>()
}
