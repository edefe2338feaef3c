export function DataPlace() {
  return <div class="place">data</div>;
}
