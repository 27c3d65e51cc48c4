// What `tests/support/dashboard_capture.py` keeps of a dashboard: its JSON and Prometheus's answers to its queries.

export interface Series {
  metric: Record<string, string>;
  value?: [number, string];
  values?: Array<[number, string]>;
}

export interface Kept {
  dashboard: any;
  from: number;
  to: number;
  variables: Record<string, string>;
  panels: Record<string, Record<string, Series[]>>;
  annotations: Record<string, Series[]>;
}

export const filled = (text: string, kept: Kept): string =>
  text.replace(/\$\{(\w+)(?::\w+)?\}|\$(\w+)/g, (all, one, other) => kept.variables[one ?? other] ?? all);

export const named = (format: string, labels: Record<string, string>): string =>
  format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? '');

const points = (series: Series): Array<[number, string]> => series.values ?? (series.value ? [series.value] : []);

// A span of time in which an annotation's query had values; samples further apart than three steps are two spans.
export function spans(series: Series[], title: string): Array<{ from: number; to: number; title: string }> {
  return series.flatMap((one) => {
    const times = points(one).map(([at]) => at * 1000);
    const step = Math.min(...times.slice(1).map((at, i) => at - times[i]), 60_000);
    const found: Array<{ from: number; to: number; title: string }> = [];
    for (const at of times) {
      const last = found.at(-1);
      if (last && at - last.to <= 3 * step) last.to = at;
      else found.push({ from: at, to: at, title: named(title, one.metric) });
    }
    return found;
  });
}

export { points };
