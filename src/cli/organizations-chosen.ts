import { asAdministrator, type Caller, OPERATOR } from '../auth/caller.ts'
import type { Db } from '../db/database.ts'
import { getOrganization, listOrganizations, type Organization } from '../organizations/service.ts'

/** The organization that `--org-id` names, or else every one, each with the caller that may administer it. */
export async function organizationsChosen(
  deps: { db: Db },
  organizationId: string | undefined,
): Promise<{ organization: Organization; caller: Caller }[]> {
  const organizations =
    organizationId === undefined
      ? await listOrganizations(deps, OPERATOR)
      : [await getOrganization(deps, OPERATOR, organizationId)]
  return organizations.map((organization) => ({ organization, caller: asAdministrator(OPERATOR, organization.id) }))
}
