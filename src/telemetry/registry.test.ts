import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Registry } from './registry.ts'

test('counters, gauges and histograms are written as Prometheus reads them, whatever is in a label', () => {
  const registry = new Registry()
  const counter = registry.counter('calls_total', 'Calls.', 'kind')
  registry.counter('nothing_total', 'Nothing yet.')
  const histogram = registry.histogram('seconds', 'Time.', [0.1, 1])
  registry.observe('gauge', 'level', 'Level.', () => 3)

  counter.add(1, 'a"b\\c\nd')
  counter.add(2, 'plain')
  for (const seconds of [0.1, 0.5, 7]) histogram.observe(seconds)

  assert.equal(
    registry.render(),
    [
      '# HELP calls_total Calls.\n# TYPE calls_total counter',
      'calls_total{kind="a\\"b\\\\c\\nd"} 1\ncalls_total{kind="plain"} 2',
      '# HELP nothing_total Nothing yet.\n# TYPE nothing_total counter\nnothing_total 0',
      '# HELP seconds Time.\n# TYPE seconds histogram',
      'seconds_bucket{le="0.1"} 1\nseconds_bucket{le="1"} 2\nseconds_bucket{le="+Inf"} 3',
      'seconds_sum 7.6\nseconds_count 3',
      '# HELP level Level.\n# TYPE level gauge\nlevel 3\n',
    ].join('\n'),
  )
})

test('label values that never end are counted together', () => {
  const registry = new Registry()
  const counter = registry.counter('calls_total', 'Calls.', 'kind')

  for (let at = 0; at < 1000; at += 1) counter.add(1, `kind-${at}`)

  const samples = counter.samples()
  assert.equal(samples.length, 101)
  assert.equal(samples.find(({ labels }) => labels.kind === 'other')?.value, 900)
})
