// Curves, timelines and heatmaps. Their geometry is ours; colours, texts and units are Grafana's own.

import { DataFrame, Field, formattedValueToString, getFieldDisplayName, getFieldSeriesColor, getValueFormat } from '@grafana/data';
import { theme } from './frames';

export interface Span { from: number; to: number; title: string; color: string; quiet: boolean }
interface Chart {
  frames: DataFrame[]; from: number; to: number; width: number; height: number; spans: Span[];
  axis?: number; // its width, where the panel sets one
}

const GREY = '#8e8e99', GRID = '#2c3235', FONT = 11;
const clock = (at: number, seconds: boolean) => new Date(at).toISOString().slice(11, seconds ? 19 : 16);
const value = (frame: DataFrame): Field => frame.fields.find((field) => field.type === 'number')!;

// The time axis: a tick at whole minutes, so many that they can be read.
function Times({ from, to, x, y, top }: { from: number; to: number; x: (at: number) => number; y: number; top: number }) {
  const step = [60, 120, 300, 600, 1800, 3600, 7200, 21600].map((s) => s * 1000).find((s) => (to - from) / s <= 8) ?? 86_400_000;
  const ticks = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) ticks.push(at);
  return <g>{ticks.map((at) => <g key={at}>
    <line x1={x(at)} x2={x(at)} y1={top} y2={y} stroke={GRID} />
    <text x={x(at)} y={y + 14} fill={GREY} fontSize={FONT} textAnchor="middle">{clock(at, false)}</text>
  </g>)}</g>;
}

function Spans({ spans, x, top, bottom, from, to }: { spans: Span[]; x: (at: number) => number; top: number; bottom: number; from: number; to: number }) {
  return <g>{spans.filter((s) => s.to >= from && s.from <= to).map((s, i) => {
    const left = x(Math.max(s.from, from)), right = x(Math.min(s.to, to));
    return <g key={i}>
      <rect x={left} y={top} width={Math.max(1, right - left)} height={bottom - top} fill={s.color} opacity={s.quiet ? 0.05 : 0.18} />
      <line x1={left} x2={left} y1={top} y2={bottom} stroke={s.color} strokeDasharray="3 3" />
      <rect x={left} y={bottom} width={Math.max(3, right - left)} height={3} fill={s.color} />
    </g>;
  })}</g>;
}

export function Legend({ items }: { items: Array<{ name: string; color: string; dashed?: boolean }> }) {
  return <div className="legend">{items.map(({ name, color }) => <span key={name}><i style={{ background: color }} />{name}</span>)}</div>;
}

function ticksOf(low: number, high: number): number[] {
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough || 1));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? power;
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) found.push(Math.abs(at) < step * 1e-6 ? 0 : at);
  return found;
}

export function Lines({ frames, from, to, width, height, spans, axis }: Chart) {
  const drawn = frames.map((frame) => ({ frame, field: value(frame) }));
  const numbers = drawn.flatMap(({ field }) => field.values.filter((n: number) => Number.isFinite(n)));
  const config = drawn[0].field.config;
  let low = config.min ?? Math.min(...numbers), high = config.max ?? Math.max(...numbers);
  if (!(high > low)) high = low + (Math.abs(low) || 1);
  else if (config.max === undefined || config.max === null) high += (high - low) * 0.05;
  const format = getValueFormat(config.unit ?? 'short');
  const ticks = ticksOf(low, high);
  // As many decimals as it takes to tell two ticks apart.
  const said = [0, 1, 2, 3].map((n) => ticks.map((t) => formattedValueToString(format(t, n)))).find((all) => new Set(all).size === all.length)
    ?? ticks.map((t) => formattedValueToString(format(t, 3)));
  const items = drawn.map(({ frame, field }) => ({ name: getFieldDisplayName(field, frame, frames), color: getFieldSeriesColor(field, theme).color }));
  const inLines = Math.ceil(items.reduce((sum, { name }) => sum + name.length * 6.4 + 29, 0) / (width - 8));
  const tall = height - 16 * Math.min(inLines, 4) - 4;
  const left = axis ?? Math.max(...said.map((text) => text.length)) * 6.4 + 12, top = 6, bottom = tall - 22, right = width - 12;
  const x = (at: number) => left + ((at - from) / (to - from)) * (right - left);
  const y = (n: number) => bottom - ((n - low) / (high - low)) * (bottom - top);
  const path = (frame: DataFrame, field: Field) => {
    const times = frame.fields[0].values, gap = 2.5 * Math.min(...times.slice(1, 9).map((at: number, i: number) => at - times[i]), 60_000);
    let pen = false, text = '';
    times.forEach((at: number, i: number) => {
      const n = field.values[i];
      if (!Number.isFinite(n)) { pen = false; return; }
      if (i && at - times[i - 1] > gap) pen = false;
      text += `${pen ? 'L' : 'M'}${x(at).toFixed(1)} ${y(Math.min(Math.max(n, low), high)).toFixed(1)}`;
      pen = true;
    });
    return text;
  };
  return <div><svg width={width} height={tall}>
    <Times from={from} to={to} x={x} y={bottom} top={top} />
    {ticks.map((tick, i) => <g key={tick}>
      <line x1={left} x2={right} y1={y(tick)} y2={y(tick)} stroke={GRID} />
      <text x={left - 6} y={y(tick) + 4} fill={GREY} fontSize={FONT} textAnchor="end">{said[i]}</text>
    </g>)}
    <Spans spans={spans} x={x} top={top} bottom={bottom} from={from} to={to} />
    {drawn.map(({ frame, field }, i) => <path key={i} d={path(frame, field)} fill="none" stroke={items[i].color}
      strokeWidth={field.config.custom?.lineWidth ?? 1.3} strokeDasharray={field.config.custom?.lineStyle?.dash?.join(' ')} />)}
  </svg><Legend items={items} /></div>;
}

export function Timeline({ frames, from, to, width, height, spans, merge, axis }: Chart & { merge: boolean }) {
  const shown = new Map<string, string>();
  const left = axis ?? Math.max(...frames.map((frame) => getFieldDisplayName(value(frame), frame, frames).length)) * 6.6 + 14;
  const rows = frames.map((frame) => ({ name: getFieldDisplayName(value(frame), frame, frames), times: frame.fields[0].values as number[], field: value(frame) }));
  const step = Math.min(...rows.flatMap(({ times }) => times.slice(1).map((at, i) => at - times[i])), 60_000);
  const tall = height - 20, bottom = tall - 20, each = bottom / Math.max(rows.length, 1), right = width - 12;
  const x = (at: number) => left + ((at - from) / (to - from)) * (right - left);
  const cells = rows.flatMap(({ times, field }, row) => {
    const found: Array<{ row: number; from: number; to: number; text: string; color: string }> = [];
    times.forEach((at, i) => {
      const { text, color } = field.display!(field.values[i]);
      shown.set(text, color ?? GREY);
      const last = found.at(-1);
      if (merge && last && last.text === text && at - last.to < step * 0.5) last.to = at + step;
      else found.push({ row, from: at, to: at + step, text, color: color ?? GREY });
    });
    return found;
  });
  return <div><svg width={width} height={tall}>
    <Times from={from} to={to} x={x} y={bottom} top={0} />
    <Spans spans={spans} x={x} top={0} bottom={bottom} from={from} to={to} />
    {rows.map(({ name }, i) => <text key={name} x={left - 8} y={(i + 0.5) * each + 4} textAnchor="end" fill="#ccccdc" fontSize={FONT}>{name}</text>)}
    {cells.map((cell, i) => {
      const begin = x(Math.max(cell.from, from)), end = x(Math.min(cell.to, to)), wide = Math.max(0.5, end - begin - (merge ? 0 : 0.8));
      return <g key={i}>
        <rect x={begin} y={cell.row * each + 2} width={wide} height={each - 4} fill={cell.color} opacity={0.8} />
        {merge && wide > cell.text.length * 7 && each > 14
          ? <text x={begin + 5} y={(cell.row + 0.5) * each + 4} fill="#fff" fontSize={FONT}>{cell.text}</text> : null}
      </g>;
    })}
  </svg><Legend items={[...shown].map(([name, color]) => ({ name, color }))} /></div>;
}

export function Heat({ frames, from, to, width, height, spans }: Chart) {
  const bound = (frame: DataFrame) => (frame.name === '+Inf' ? Infinity : Number(frame.name));
  const buckets = [...frames].sort((a, b) => bound(a) - bound(b));
  const seconds = getValueFormat('s');
  const left = 66, bottom = height - 22, each = bottom / buckets.length, right = width - 12;
  const x = (at: number) => left + ((at - from) / (to - from)) * (right - left);
  let most = 0;
  const cells = buckets.flatMap((frame, row) => frame.fields[0].values.map((at: number, i: number) => {
    const below = row ? (value(buckets[row - 1]).values[i] ?? 0) : 0; // buckets are cumulative
    const count = Math.max(0, value(frame).values[i] - below);
    most = Math.max(most, count);
    return { row, at, count };
  })).filter(({ count }) => count > 1e-9);
  const times = buckets[0].fields[0].values, step = times.length > 1 ? times[1] - times[0] : 60_000;
  const color = (count: number) => `hsl(${230 - 200 * (count / most)}, 75%, ${32 + 25 * (count / most)}%)`;
  return <svg width={width} height={height}>
    <Times from={from} to={to} x={x} y={bottom} top={0} />
    {buckets.map((frame, row) => <text key={row} x={left - 6} y={bottom - (row + 0.5) * each + 4} textAnchor="end" fill={GREY} fontSize={10}>
      {frame.name === '+Inf' ? '+Inf' : formattedValueToString(seconds(bound(frame)))}</text>)}
    {cells.map(({ row, at, count }, i) => <rect key={i} x={x(at)} y={bottom - (row + 1) * each} width={Math.max(0.5, x(at + step) - x(at) - 0.5)}
      height={each - 1} fill={color(count)} />)}
    <Spans spans={spans} x={x} top={0} bottom={bottom} from={from} to={to} />
  </svg>;
}
