// Histograms whose buckets name a request that fell into them, and the text format that can tell of it.
import { Histogram, type OpenMetricsContentType, Registry } from 'prom-client';

/** `request_id` is an exemplar's label; no series has it. */
export type ExemplarHistogram<T extends string> = Histogram<T | 'request_id'>;

/** A histogram with exemplars, entered into the registry. */
export function exemplarHistogram<T extends string>(
  registry: Registry,
  name: string,
  help: string,
  buckets: number[],
  labelNames: readonly T[],
): ExemplarHistogram<T> {
  // Entered by hand: prom-client takes exemplars for registries of OpenMetrics alone.
  const options = { name, help, buckets, labelNames, enableExemplars: true, registers: [] };
  const made = new Histogram<T | 'request_id'>(options);
  registry.registerMetric(made);
  return made;
}

/** A value that `observe` takes, with the request it came from. OpenMetrics takes at most 128 characters of an exemplar's labels. */
export function withExemplar<T extends string>(
  requestId: string,
  labels: Record<T, string>,
  value: number,
) {
  return { value, labels, exemplarLabels: { request_id: requestId.slice(0, 100) } };
}

/** The registry in OpenMetrics' text, which alone has exemplars; without its last line, `# EOF`. */
export async function openMetrics(registry: Registry): Promise<string> {
  const view = new Registry<OpenMetricsContentType>();
  view.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  for (const metric of registry.getMetricsAsArray() as unknown as Source[]) {
    // Counters get their `_total` back in this format; the metric itself must keep its name.
    const bare = metric.name.replace(/_total$/, '');
    const read = async () => ({
      ...(await (metric.getForPromString?.() ?? metric.get())),
      name: metric.type === 'counter' ? bare : metric.name,
    });
    const shown = { name: metric.name, type: metric.type, get: read, getForPromString: read };
    view.registerMetric(shown as never);
  }
  return (await view.metrics()).replace(/# EOF\n$/, '');
}

interface Source {
  name: string;
  type: string;
  get(): Promise<object>;
  getForPromString?(): Promise<object>;
}
