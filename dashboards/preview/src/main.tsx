// One dashboard as Grafana would lay it out, from a file of kept answers: /?kept=overview.json

import { DataFrame, getFieldDisplayName, getFieldDisplayValues, renderMarkdown, ThemeContext } from '@grafana/data';
import { BigValue, PanelChrome } from '@grafana/ui';
import { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { Heat, Lines, Span, Timeline } from './charts';
import { frames as framesOf, theme } from './frames';
import { filled, Kept, spans as spansOf } from './kept';

const WIDTH = 1500, COLUMN = WIDTH / 24, ROW = 38, HEAD = 84;

function Table({ panel, frame }: { panel: any; frame: DataFrame }) {
  const order = [...Array(frame.length).keys()];
  for (const { displayName, desc } of panel.options.sortBy ?? []) {
    const field = frame.fields.find((one) => getFieldDisplayName(one, frame) === displayName);
    if (field) order.sort((a, b) => (desc ? -1 : 1) * ((field.values[a] ?? -Infinity) - (field.values[b] ?? -Infinity)));
  }
  return <table><thead><tr>{frame.fields.map((field) => <th key={field.name}>{getFieldDisplayName(field, frame)}</th>)}</tr></thead>
    <tbody>{order.map((row) => <tr key={row}>{frame.fields.map((field) => {
      const value = field.values[row];
      if (value === undefined || value === null) return <td key={field.name} />;
      const shown = field.display!(value);
      const color = field.config.custom?.cellOptions?.type === 'color-text' ? shown.color : undefined;
      return <td key={field.name} style={{ color }}>{shown.prefix}{shown.text}{shown.suffix}</td>;
    })}</tr>)}</tbody></table>;
}

function Stat({ panel, frames, width, height }: { panel: any; frames: DataFrame[]; width: number; height: number }) {
  const shown = getFieldDisplayValues({ data: frames, reduceOptions: panel.options.reduceOptions, fieldConfig: panel.fieldConfig,
    replaceVariables: (text: string) => text, theme, timeZone: 'utc' });
  const value = shown[0]?.display ?? { text: panel.fieldConfig.defaults.noValue, numeric: NaN, color: '#8e8e99' };
  return <BigValue value={value} width={width} height={height} theme={theme} colorMode={panel.options.colorMode}
    graphMode={panel.options.graphMode} justifyMode={panel.options.justifyMode} textMode={frames.length ? panel.options.textMode : 'value'} />;
}

function Body({ panel, kept, spans, width, height }: { panel: any; kept: Kept; spans: Span[]; width: number; height: number }) {
  const [frames, setFrames] = useState<DataFrame[] | null>(null);
  const [wrong, setWrong] = useState('');
  useEffect(() => { if (panel.type !== 'text') framesOf(panel, kept).then(setFrames, (error) => setWrong(String(error))); }, []);
  if (panel.type === 'text') {
    return <div className="prose" dangerouslySetInnerHTML={{ __html: renderMarkdown(filled(panel.options.content, kept)) }} />;
  }
  if (wrong) return <div className="empty">{wrong}</div>;
  if (!frames) return null;
  const chart = { frames, from: kept.from, to: kept.to, width, height, spans, axis: panel.fieldConfig.defaults.custom?.axisWidth };
  if (panel.type === 'stat') return <Stat panel={panel} frames={frames} width={width} height={height} />;
  if (!frames.length || !frames[0].length) return <div className="empty">{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>;
  switch (panel.type) {
    case 'timeseries': return <Lines {...chart} />;
    case 'heatmap': return <Heat {...chart} />;
    case 'table': return <Table panel={panel} frame={frames[0]} />;
    default:
      return <Timeline {...chart} merge={panel.type === 'state-timeline'} />;
  }
}

function Dashboard({ kept }: { kept: Kept }) {
  const { dashboard } = kept;
  const spans: Span[] = dashboard.annotations.list.filter((one: any) => !one.useValueForTime).flatMap((one: any) =>
    spansOf(kept.annotations[one.name] ?? [], one.titleFormat).map((span) => ({ ...span, color: theme.visualization.getColorByName(one.iconColor), quiet: one.iconColor === 'red' })));
  const bottom = Math.max(...dashboard.panels.map((panel: any) => panel.gridPos.y + panel.gridPos.h));
  const time = `${new Date(kept.from).toISOString().slice(0, 16).replace('T', ' ')} to ${new Date(kept.to).toISOString().slice(11, 16)} UTC`;
  return <div id="drawn" style={{ position: 'relative', width: WIDTH, height: HEAD + bottom * ROW + 4 }}>
    <div style={{ padding: '10px 8px 6px', fontSize: 18 }}>{dashboard.title}
      <span style={{ float: 'right', fontSize: 12, color: '#8e8e99' }}>{time}</span></div>
    <div style={{ padding: '0 8px' }}>
      {dashboard.templating.list.map((one: any) => <span className="chip" key={one.name}><b>{one.label}</b>
        {one.type === 'query' ? 'All' : kept.variables[one.name]}</span>)}
      <span style={{ float: 'right', fontSize: 12 }}>{dashboard.links.map((one: any) => <a key={one.title} style={{ marginLeft: 14 }}>{one.title}</a>)}</span>
    </div>
    {dashboard.panels.map((panel: any) => {
      const { x, y, w, h } = panel.gridPos;
      const style = { left: x * COLUMN + 4, top: HEAD + y * ROW, width: w * COLUMN - 8, height: h * ROW - 8 };
      return <div key={panel.id} style={{ position: 'absolute', ...style }}>
        {panel.type === 'row' ? <b style={{ fontSize: 15 }}>▾ {panel.title}</b>
          : <PanelChrome title={panel.title} description={panel.description} width={style.width} height={style.height} padding="sm">
            {(width: number, height: number) => <div style={{ width, height, overflow: 'hidden' }}>
              <Body panel={panel} kept={kept} spans={spans} width={width} height={height} /></div>}
          </PanelChrome>}
      </div>;
    })}
  </div>;
}

const file = new URLSearchParams(location.search).get('kept')!;
fetch(`/kept/${file}`).then((answer) => answer.json()).then((kept: Kept) =>
  createRoot(document.getElementById('root')!).render(<ThemeContext.Provider value={theme}><Dashboard kept={kept} /></ThemeContext.Provider>));
