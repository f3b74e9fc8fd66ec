// A measurement of recall as one HTML file.
import type { LegendContract } from '../../server/page/legend.js';
import { htmlFile } from '../drawing/html-file.ts';
import { thousands } from '../plan/segment-map.ts';
import { sectionHtml, sectionStyle } from '../report/html.ts';
import { documentsText } from './grid.ts';
import type { RecallResult } from './run.ts';
import { recallSection } from './section.ts';

/** @param contract of the checkpoint that was asked */
export function recallHtml(
  name: string,
  result: RecallResult,
  contract: LegendContract & { digest: string },
): string {
  const { lengths, samples } = result.asked;
  return htmlFile({
    title: `Recall of ${name}`,
    subtitle: `Texts of ${lengths.map(thousands).join(', ')} tokens; ${documentsText(samples)} per length`,
    model: name,
    digest: contract.digest,
    contract,
    style: sectionStyle,
    body: sectionHtml(recallSection(result)),
  });
}
