package material

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFurtherDocumentsCompile has more of each kind than one file holds.
func TestFurtherDocumentsCompile(t *testing.T) {
	dir := t.TempDir()
	if err := WritePolicy(dir, "127.0.0.1:8080", Batch); err != nil {
		t.Fatal(err)
	}
	const many = fileDocuments + 3
	shops, secrets := Shops(2, 25, 50)
	for _, files := range []map[string]string{Further{Sites: many, Contracts: 7, Routes: many, Journeys: 7}.Files(), shops} {
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	set, err := ReadPolicy(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Sites) != many+3 || len(set.Contracts) != 8 || len(set.Routes) != many+1 || len(set.Journeys) != 7 || len(set.Systems) != 6 {
		t.Errorf("%d sites, %d contracts, %d routes, %d journeys, %d systems", len(set.Sites), len(set.Contracts), len(set.Routes), len(set.Journeys), len(set.Systems))
	}
	for region, site := range map[string]string{RegionNear: ShopSite, RegionFar: ShopsSite} {
		shop := set.Systems[ShopName(region, 1)]
		if shop == nil || shop.Site != site || set.Sites[site].Region != region || shop.Intake.Rate != 25 || shop.Intake.Burst != 50 {
			t.Errorf("the shop of region %s is %+v", region, shop)
		} else if secrets[shop.Intake.Token[len("file:"):]] != ShopToken(shop.Name) {
			t.Errorf("%s is known by %q, which is no secret of %v", shop.Name, shop.Intake.Token, secrets)
		}
	}
}

func TestOrdersWithKeysRepeatThem(t *testing.T) {
	o := NewOrders(1).WithKeys(3)
	_, first, err1 := o.JSON(1)
	_, same, err2 := o.JSON(4)
	_, other, err3 := o.JSON(2)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	const key = len(`{"orderId":"O-000000001"`)
	if string(first[:key]) != string(same[:key]) || string(first[:key]) == string(other[:key]) {
		t.Errorf("of three keys: %s, %s, %s", first[:key], same[:key], other[:key])
	}
}
