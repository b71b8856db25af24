/** The chart in `deploy/helm`, rendered: that its parts fit each other, the image, and the server's configuration. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { readConfig } from '../src/config.ts'
import { generateSecrets } from '../src/instance-secrets.ts'
import { CHART, type Document, renderChart, type Values } from './helm/render.ts'
import { ROOT, readDockerfile } from './image/dockerfile.ts'

const API_VERSIONS: Record<string, string> = {
  StatefulSet: 'apps/v1',
  Service: 'v1',
  Ingress: 'networking.k8s.io/v1',
  NetworkPolicy: 'networking.k8s.io/v1',
  HorizontalPodAutoscaler: 'autoscaling/v2',
  PodDisruptionBudget: 'policy/v1',
}
const EVERYTHING = {
  existingSecret: 'openai-proxy-secrets',
  autoscaling: { enabled: true },
  ingress: { enabled: true, className: 'nginx', tlsSecretName: 'tls' },
  imagePullSecrets: [{ name: 'registry' }],
  nodeSelector: { disk: 'ssd' },
  tolerations: [{ key: 'proxy', operator: 'Exists' }],
  networkPolicy: { from: [{ podSelector: { matchLabels: { app: 'shop' } } }], adminFrom: [{ podSelector: {} }] },
}
const LEAST = {
  existingSecret: 'openai-proxy-secrets',
  journal: { persistent: false },
  adminPort: { enabled: false },
  networkPolicy: { enabled: false },
  podDisruptionBudget: { enabled: false },
}
const CHOICES: [name: string, values: Values][] = [
  ['the least', LEAST],
  ['the defaults', { existingSecret: 'openai-proxy-secrets' }],
  ['everything', EVERYTHING],
]

for (const [name, values] of CHOICES) {
  test(`with ${name}, what the documents say of each other is true`, () => {
    const chart = renderChart(values)

    const [set] = ofKind(chart, 'StatefulSet')
    const pod = set?.spec.template
    const [container] = pod.spec.containers
    const ports = Object.fromEntries(container.ports.map((port: Values) => [port.name, port.containerPort]))
    const services = ofKind(chart, 'Service')
    const selectors = [
      set?.spec.selector.matchLabels,
      ...services.map(({ spec }) => spec.selector),
      ...ofKind(chart, 'PodDisruptionBudget').map(({ spec }) => spec.selector.matchLabels),
      ...ofKind(chart, 'NetworkPolicy').map(({ spec }) => spec.podSelector.matchLabels),
      ...pod.spec.topologySpreadConstraints.map((each: Document) => each.labelSelector.matchLabels),
    ]

    for (const { kind, apiVersion, metadata } of chart) {
      assert.equal(apiVersion, API_VERSIONS[kind], kind)
      assert.match(metadata.name, /^openai-proxy(?:-pods|-admin)?$/)
    }
    assert.equal(new Set(chart.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).size, chart.length)
    for (const selector of selectors) assert.deepEqual(selector, pod.metadata.labels)
    for (const { spec } of services) for (const port of spec.ports) assert.ok(port.targetPort in ports)
    const headless = services.find(({ metadata }) => metadata.name === set?.spec.serviceName)
    assert.equal(headless?.spec.clusterIP, 'None')
    for (const { spec } of ofKind(chart, 'HorizontalPodAutoscaler')) {
      assert.deepEqual([spec.scaleTargetRef.kind, spec.scaleTargetRef.name], ['StatefulSet', set?.metadata.name])
      // Two who both say how many would undo each other's work.
      assert.equal(set?.spec.replicas, undefined)
    }
    for (const { spec } of ofKind(chart, 'Ingress')) {
      const { name, port } = spec.rules[0].http.paths[0].backend.service
      const service = services.find(({ metadata }) => metadata.name === name)
      assert.ok(service?.spec.ports.some((each: Values) => each.name === port.name && each.targetPort === 'http'))
    }
    for (const { spec } of ofKind(chart, 'NetworkPolicy')) {
      const open = spec.ingress.flatMap((rule: Document) => rule.ports.map(({ port }: Values) => port))
      for (const port of open) assert.ok(Object.values(ports).includes(port))
    }
    const probes = [container.startupProbe, container.livenessProbe, container.readinessProbe]
    assert.deepEqual(
      probes.map(({ httpGet }) => [httpGet.path, httpGet.port]),
      [
        ['/livez', 'http'],
        ['/livez', 'http'],
        ['/readyz', 'http'],
      ],
    )
    const volumes = [...pod.spec.volumes, ...(set?.spec.volumeClaimTemplates ?? [])]
    const names = volumes.map((volume: Document) => volume.name ?? volume.metadata.name)
    assert.deepEqual(names.toSorted(), container.volumeMounts.map((mount: Values) => mount.name).toSorted())
  })

  test(`with ${name}, the server gets a configuration it takes, in a pod that is what the image is made for`, () => {
    const [set] = ofKind(renderChart(values), 'StatefulSet')
    const { spec } = set?.spec.template ?? assert.fail()
    const [container] = spec.containers
    const image = readDockerfile().at(-1)?.instructions ?? []
    const textOf = (name: string) => image.find((instruction) => instruction.name === name)?.text ?? ''

    const env = Object.fromEntries(container.env.map((each: Document) => [each.name, each.value]))
    const secrets = { DATABASE_URL: 'postgresql://proxy@db/openai_proxy', ...generateSecrets() }
    const config = readConfig({ ...env, ...secrets })

    const byReference = container.env.filter((each: Document) => each.valueFrom !== undefined)
    assert.deepEqual(
      byReference.map(({ name, valueFrom }: Document) => ({ [name]: valueFrom.secretKeyRef })),
      [
        ...Object.keys(secrets).map((name) => ({ [name]: { name: 'openai-proxy-secrets', key: name } })),
        ...['JWT_SECRET_KEY_PREVIOUS', 'ENCRYPTION_KEY_PREVIOUS'].map((name) => ({
          [name]: { name: 'openai-proxy-secrets', key: name, optional: true },
        })),
      ],
    )
    assert.deepEqual([config.host, config.port], ['0.0.0.0', container.ports[0].containerPort])
    assert.equal(config.adminPort, container.ports[1]?.containerPort)
    assert.ok(spec.terminationGracePeriodSeconds * 1000 > config.shutdownTimeoutMs + 10_000)
    const { runAsUser, runAsGroup, runAsNonRoot } = spec.securityContext
    assert.deepEqual([`${runAsUser}:${runAsGroup}`, runAsNonRoot], [textOf('USER'), true])
    assert.deepEqual(container.securityContext, {
      readOnlyRootFilesystem: true,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
    })
    const journal = container.volumeMounts.find((mount: Values) => mount.name === 'journal')
    assert.deepEqual([journal?.mountPath, config.dataDirectory], [textOf('VOLUME'), textOf('VOLUME')])
  })
}

test('the journal is on a volume of each pod, or on the node when that is chosen', () => {
  const [persistent] = ofKind(
    renderChart({ existingSecret: 's', journal: { storageClassName: 'fast' } }),
    'StatefulSet',
  )
  const [fleeting] = ofKind(renderChart(LEAST), 'StatefulSet')

  const [claim] = persistent?.spec.volumeClaimTemplates ?? []
  assert.deepEqual([claim.spec.storageClassName, claim.spec.resources.requests.storage], ['fast', '2Gi'])
  assert.deepEqual(persistent?.spec.persistentVolumeClaimRetentionPolicy, {
    whenDeleted: 'Retain',
    whenScaled: 'Retain',
  })
  assert.equal(fleeting?.spec.volumeClaimTemplates, undefined)
  assert.deepEqual(
    fleeting?.spec.template.spec.volumes.find(({ name }: Values) => name === 'journal'),
    { name: 'journal', emptyDir: { sizeLimit: '2Gi' } },
  )
})

test('the admin API is open to nobody but whom the values name, and no Ingress leads to it', () => {
  const portsOpen = (values: Values) =>
    ofKind(renderChart({ existingSecret: 's', ...values }), 'NetworkPolicy')[0]?.spec.ingress

  const closed = portsOpen({})
  const open = portsOpen({ networkPolicy: { adminFrom: [{ podSelector: { matchLabels: { app: 'console' } } }] } })

  assert.deepEqual(closed, [{ ports: [{ port: 8000 }] }])
  assert.deepEqual(open[1], { ports: [{ port: 8001 }], from: [{ podSelector: { matchLabels: { app: 'console' } } }] })
})

test('settings are passed on as texts, whatever is in them', () => {
  const settings = {
    OPENAI_API_BASE_URL: 'https://eu.api.openai.com/v1',
    CORS_ORIGINS: '["https://a.example"]',
    MAX_HEADERS: '200',
  }

  const [set] = ofKind(renderChart({ existingSecret: 's', settings }), 'StatefulSet')

  const env = Object.fromEntries(
    set?.spec.template.spec.containers[0].env.map(({ name, value }: Values) => [name, value]),
  )
  for (const [name, value] of Object.entries(settings)) assert.equal(env[name], value)
})

test('without the name of a Secret nothing is rendered', () => {
  assert.throws(() => renderChart(), /existingSecret is required: the name of a Secret with DATABASE_URL/)
})

test('the chart is of the version of the package', () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  const chart = parse(readFileSync(join(CHART, 'Chart.yaml'), 'utf8'))

  assert.deepEqual([chart.version, chart.appVersion], [version, version])
})

function ofKind(documents: Document[], wanted: string): Document[] {
  return documents.filter(({ kind }) => kind === wanted)
}
