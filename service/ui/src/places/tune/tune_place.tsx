export function TunePlace() {
  return <div class="place">tune</div>;
}
