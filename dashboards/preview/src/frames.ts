// From Prometheus's answers to Grafana's data frames, with the panel's transformations, units, mappings and colours.

import {
  applyFieldOverrides, createTheme, DataFrame, FieldConfigOptionsRegistry, FieldConfigSource, FieldType,
  standardFieldConfigEditorRegistry, standardTransformers, standardTransformersRegistry, toDataFrame, transformDataFrame,
} from '@grafana/data';
import { firstValueFrom } from 'rxjs';
import { Kept, named, points, Series } from './kept';

export const theme = createTheme({ colors: { mode: 'dark' } });

const option = (id: string, path: string, isCustom: boolean) =>
  ({ id, path, name: id, isCustom, editor: () => null, override: () => null, process: (value: unknown) => value,
     shouldApply: () => true, settings: {}, getItemsCount: () => 0 }) as any;
const STANDARD = ['unit', 'min', 'max', 'decimals', 'displayName', 'color', 'noValue', 'links', 'mappings', 'thresholds'];
const CUSTOM = ['lineStyle', 'lineWidth', 'cellOptions'];
standardFieldConfigEditorRegistry.setInit(() => STANDARD.map((id) => option(id, id, false)));
const registry = new FieldConfigOptionsRegistry(() => [
  ...STANDARD.map((id) => option(id, id, false)), ...CUSTOM.map((id) => option(`custom.${id}`, id, true)),
]);
standardTransformersRegistry.setInit(() =>
  [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer].map((transformation: any) =>
    ({ id: transformation.id, name: transformation.name, transformation: () => Promise.resolve(transformation),
      editor: () => null, description: '' }) as any));

const line = (target: any, series: Series): DataFrame => {
  const legend = target.legendFormat ? named(target.legendFormat, series.metric) : '';
  const values = points(series);
  return toDataFrame({
    refId: target.refId,
    name: legend,
    fields: [
      { name: 'Time', type: FieldType.time, values: values.map(([at]) => at * 1000) },
      { name: 'Value', type: FieldType.number, labels: series.metric, values: values.map(([, value]) => Number(value)),
        config: legend ? { displayNameFromDS: legend } : {} },
    ],
  });
};

const rows = (target: any, answer: Series[], several: boolean): DataFrame => {
  const labels = [...new Set(answer.flatMap((one) => Object.keys(one.metric)))];
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: answer.map((one) => one.value![0] * 1000) },
      ...labels.map((label) =>
        ({ name: label, type: FieldType.string, values: answer.map((one) => one.metric[label] ?? '') })),
      { name: several ? `Value #${target.refId}` : 'Value', type: FieldType.number,
        values: answer.map((one) => Number(one.value![1])) },
    ],
  });
};

export async function frames(panel: any, kept: Kept): Promise<DataFrame[]> {
  const answers = kept.panels[panel.id] ?? {};
  const raw: DataFrame[] = panel.targets.flatMap((target: any) => {
    const answer = answers[target.refId] ?? [];
    if (panel.type === 'table') return answer.length ? [rows(target, answer, panel.targets.length > 1)] : [];
    return answer.map((series) => line(target, series));
  });
  const data = panel.transformations?.length
    ? await firstValueFrom(transformDataFrame(panel.transformations, raw, { interpolate: (text: string) => text } as any))
    : raw;
  const config: FieldConfigSource = structuredClone(panel.fieldConfig);
  config.defaults.custom ??= {};
  if (panel.type === 'timeseries') config.defaults.color ??= { mode: 'palette-classic' };
  return applyFieldOverrides({
    data, fieldConfig: config, fieldConfigRegistry: registry, replaceVariables: (text: string) => text, theme,
    timeZone: 'utc',
  });
}
