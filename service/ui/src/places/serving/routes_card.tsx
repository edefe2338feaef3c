import { sum, type Scrape } from "../../api/metrics";
import { count, figure } from "../../base/format";
import { useWords } from "../../base/language";
import { Card } from "../../parts/card";
import { Table } from "../../parts/table";
import { servingWords } from "../../words/serving";

/** Each route since the start of the service. */
export function RoutesCard({ look }: { look: Scrape }) {
  const words = useWords(servingWords);
  const routes = [
    ...new Set(look.samples.filter((one) => one.name === "vitrine_requests_total").map((one) => one.labels.route)),
  ];
  const rows = routes
    .map((route) => {
      const of = (labels: Record<string, string>): boolean => labels.route === route;
      const total = sum(look, "vitrine_requests_total", of);
      return {
        route,
        total,
        failed: sum(look, "vitrine_requests_total", (labels) => of(labels) && Number(labels.status) >= 400),
        mean:
          sum(look, "vitrine_request_duration_seconds_sum", of) /
          Math.max(1, sum(look, "vitrine_request_duration_seconds_count", of)),
      };
    })
    .filter((row) => row.total > 0)
    .sort((a, b) => b.total - a.total);
  return (
    <Card title={words.routes}>
      <Table
        label={words.routes}
        columns={[
          { name: words.route },
          { name: words.count, right: true },
          { name: words.errors, right: true },
          { name: words.mean, right: true },
        ]}
        rows={rows.map((row) => [
          <code key={row.route}>{row.route}</code>,
          count(row.total),
          row.failed ? count(row.failed) : "–",
          `${figure(1000 * row.mean)} ${words.ms}`,
        ])}
      />
    </Card>
  );
}
