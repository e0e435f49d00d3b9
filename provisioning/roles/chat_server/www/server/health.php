<?php
// Says "ok" when a page can be made and the repository answers.
declare(strict_types=1);
require __DIR__ . '/../../lib/chat.php';

(new Repository())->ping();
header('Content-Type: text/plain');
header('Content-Length: 3');
echo "ok\n";
