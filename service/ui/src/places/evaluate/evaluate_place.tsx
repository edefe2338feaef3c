export function EvaluatePlace() {
  return <div class="place">evaluate</div>;
}
